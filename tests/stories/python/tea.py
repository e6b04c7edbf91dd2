"""The main job through alibabacloud-ecs20140526, as its documentation shows it.

tea.py ADDRESS KEY SECRET create IMAGE | reset INSTANCE DISK... | refused DISK | throttled DISK
    | fetch BUCKET OBJECT | group INSTANCE | back INSTANCE GROUP | renew INSTANCE BUCKET | forget GROUP
"""

import json
import os
import sys
import time

from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.models import Config

REGION = "cn-hangzhou"


def wait_for_instance(client, instance, status):
    for _ in range(600):
        request = models.DescribeInstancesRequest(region_id=REGION, instance_ids=json.dumps([instance]))
        found = client.describe_instances(request).body.instances.instance
        if [one.status for one in found] == [status]:
            return
        time.sleep(0.05)
    raise SystemExit(f"{instance} never became {status}")


def wait_for_disk(client, disk, status):
    for _ in range(600):
        request = models.DescribeDisksRequest(region_id=REGION, disk_ids=json.dumps([disk]))
        found = client.describe_disks(request).body.disks.disk
        if [one.status for one in found] == [status]:
            return
        time.sleep(0.05)
    raise SystemExit(f"{disk} never became {status}")


def create(client, image):
    request = models.CreateInstanceRequest(
        region_id=REGION,
        image_id=image,
        instance_type="ecs.g6.large",
        instance_name="a b+c*~'(数据盘)",
        data_disk=[models.CreateInstanceRequestDataDisk(size=1, category="cloud_auto")],
    )
    instance = client.create_instance(request).body.instance_id
    wait_for_instance(client, instance, "Stopped")
    client.start_instance(models.StartInstanceRequest(instance_id=instance))
    wait_for_instance(client, instance, "Running")
    request = models.DescribeDisksRequest(region_id=REGION, instance_id=instance)
    disks = client.describe_disks(request).body.disks.disk
    return {"instance": instance, "disks": {disk.type: disk.disk_id for disk in disks}}


def reset(client, instance, *disks):
    client.stop_instance(models.StopInstanceRequest(instance_id=instance))
    wait_for_instance(client, instance, "Stopped")
    requests = []
    for disk in disks:
        answer = client.re_init_disk(models.ReInitDiskRequest(disk_id=disk))
        requests.append(answer.body.request_id)
        wait_for_disk(client, disk, "In_use")
    client.start_instance(models.StartInstanceRequest(instance_id=instance))
    wait_for_instance(client, instance, "Running")
    return {"requests": requests}


def refused(client, disk):
    try:
        client.re_init_disk(models.ReInitDiskRequest(disk_id=disk))
    except Exception as error:  # The SDK raises one of several classes; all carry these two.
        return {"code": error.code, "status": error.status_code}
    return {"code": None, "status": 200}


def throttled(client, disk):
    for _ in range(500):
        answer = refused(client, disk)
        if answer["code"].startswith("Throttling"):
            return answer
    return {"code": None, "status": 200}


def wait_for_task(client, task):
    for _ in range(600):
        request = models.DescribeTaskAttributeRequest(region_id=REGION, task_id=task)
        found = client.describe_task_attribute(request).body
        if found.task_status == "Finished":
            return
        if found.task_status == "Failed":
            raise SystemExit(found.operation_progress_set.operation_progress[0].error_msg)
        time.sleep(0.05)
    raise SystemExit(f"{task} never ended")


def wait_for_image(client, image):
    for _ in range(600):
        request = models.DescribeImagesRequest(region_id=REGION, image_id=image)
        if client.describe_images(request).body.images.image:
            return
        time.sleep(0.05)
    raise SystemExit(f"{image} never became available")


def fetch(client, bucket, name):
    disk = models.ImportImageRequestDiskDeviceMapping(ossbucket=bucket, ossobject=name, format="RAW")
    request = models.ImportImageRequest(region_id=REGION, image_name="fetched", disk_device_mapping=[disk])
    begun = client.import_image(request).body
    wait_for_task(client, begun.task_id)
    copied = client.copy_image(models.CopyImageRequest(region_id=REGION, image_id=begun.image_id)).body.image_id
    client.delete_image(models.DeleteImageRequest(region_id=REGION, image_id=begun.image_id))
    return {"image": copied}


def group(client, instance):
    request = models.CreateSnapshotGroupRequest(region_id=REGION, instance_id=instance, name="before")
    made = client.create_snapshot_group(request).body.snapshot_group_id
    for _ in range(600):
        request = models.DescribeSnapshotGroupsRequest(region_id=REGION, snapshot_group_id=[made])
        found = client.describe_snapshot_groups(request).body.snapshot_groups.snapshot_group
        if [one.status for one in found] == ["accomplished"]:
            return {"group": made}
        time.sleep(0.05)
    raise SystemExit(f"{made} was never accomplished")


def back(client, instance, made):
    request = models.StopInstancesRequest(region_id=REGION, instance_id=[instance])
    client.stop_instances(request)
    wait_for_instance(client, instance, "Stopped")
    request = models.DescribeSnapshotGroupsRequest(region_id=REGION, snapshot_group_id=[made])
    members = client.describe_snapshot_groups(request).body.snapshot_groups.snapshot_group[0].snapshots.snapshot
    disks = [
        models.ResetDisksRequestDisk(disk_id=one.source_disk_id, snapshot_id=one.snapshot_id) for one in members
    ]
    answer = client.reset_disks(models.ResetDisksRequest(region_id=REGION, disk=disks)).body
    rows = [row.operation_status for row in answer.operation_progress_set.operation_progress]
    request = models.StartInstancesRequest(
        region_id=REGION, instance_id=[instance, "i-unknown"], batch_optimization="SuccessFirst"
    )
    started = client.start_instances(request).body.instance_responses.instance_response
    wait_for_instance(client, instance, "Running")
    return {"rows": rows, "codes": [row.code for row in started]}


def renew(client, instance, bucket):
    request = models.CreateImageRequest(region_id=REGION, instance_id=instance, image_name="whole")
    image = client.create_image(request).body.image_id
    wait_for_image(client, image)
    client.stop_instance(models.StopInstanceRequest(instance_id=instance))
    wait_for_instance(client, instance, "Stopped")
    request = models.ReplaceSystemDiskRequest(
        instance_id=instance,
        image_id=image,
        system_disk=models.ReplaceSystemDiskRequestSystemDisk(size="2"),
    )
    disk = client.replace_system_disk(request).body.disk_id
    wait_for_disk(client, disk, "In_use")
    client.start_instance(models.StartInstanceRequest(instance_id=instance))
    wait_for_instance(client, instance, "Running")
    request = models.ExportImageRequest(region_id=REGION, image_id=image, ossbucket=bucket, ossprefix="out")
    wait_for_task(client, client.export_image(request).body.task_id)
    return {"disk": disk, "object": f"out_{image}_system.raw"}


def forget(client, made):
    request = models.DeleteSnapshotGroupRequest(region_id=REGION, snapshot_group_id=made)
    answer = client.delete_snapshot_group(request).body
    return {"rows": [row.operation_status for row in answer.operation_progress_set.operation_progress]}


def main():
    address, key, secret, verb, *arguments = sys.argv[1:]
    client = Client(
        Config(
            access_key_id=key,
            access_key_secret=secret,
            region_id=REGION,
            endpoint=address,
            protocol="HTTPS" if "TLS_CA" in os.environ else "HTTP",
            ca=os.environ.get("TLS_CA"),
            security_token=os.environ.get("SECURITY_TOKEN"),
        )
    )
    verbs = [create, reset, refused, throttled, fetch, group, back, renew, forget]
    print(json.dumps({verb.__name__: verb for verb in verbs}[verb](client, *arguments)))


main()
