"""The main job through alibabacloud-ecs20140526, as its documentation shows it.

tea.py ADDRESS KEY SECRET create IMAGE | reset INSTANCE DISK... | refused DISK | throttled DISK
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


VERBS = {"create": create, "reset": reset, "refused": refused, "throttled": throttled}


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
    print(json.dumps(VERBS[verb](client, *arguments)))


main()
