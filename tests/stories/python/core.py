"""The main job through aliyun-python-sdk-core and -ecs, as their documentation shows it.

core.py ADDRESS KEY SECRET create IMAGE | reset INSTANCE DISK... | refused DISK | throttled DISK
"""

import json
import os
import sys
import time

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.auth.credentials import StsTokenCredential
from aliyunsdkcore.client import AcsClient
from aliyunsdkecs.request.v20140526.CreateInstanceRequest import CreateInstanceRequest
from aliyunsdkecs.request.v20140526.DescribeDisksRequest import DescribeDisksRequest
from aliyunsdkecs.request.v20140526.DescribeInstancesRequest import DescribeInstancesRequest
from aliyunsdkecs.request.v20140526.ReInitDiskRequest import ReInitDiskRequest
from aliyunsdkecs.request.v20140526.StartInstanceRequest import StartInstanceRequest
from aliyunsdkecs.request.v20140526.StopInstanceRequest import StopInstanceRequest

REGION = "cn-hangzhou"


def ask(client, request, **parameters):
    request.set_protocol_type("https" if "TLS_CA" in os.environ else "http")
    for name, value in parameters.items():
        getattr(request, f"set_{name}")(value)
    return json.loads(client.do_action_with_exception(request))


def wait_for(look, what, status):
    for _ in range(600):
        if [one["Status"] for one in look()] == [status]:
            return
        time.sleep(0.05)
    raise SystemExit(f"{what} never became {status}")


def wait_for_instance(client, instance, status):
    def look():
        answer = ask(client, DescribeInstancesRequest(), InstanceIds=json.dumps([instance]))
        return answer["Instances"]["Instance"]

    wait_for(look, instance, status)


def wait_for_disk(client, disk, status):
    def look():
        return ask(client, DescribeDisksRequest(), DiskIds=json.dumps([disk]))["Disks"]["Disk"]

    wait_for(look, disk, status)


def create(client, image):
    answer = ask(
        client,
        CreateInstanceRequest(),
        ImageId=image,
        InstanceType="ecs.g6.large",
        InstanceName="a b+c*~'(数据盘)",
        DataDisks=[{"Size": 1, "Category": "cloud_auto"}],
    )
    instance = answer["InstanceId"]
    wait_for_instance(client, instance, "Stopped")
    ask(client, StartInstanceRequest(), InstanceId=instance)
    wait_for_instance(client, instance, "Running")
    disks = ask(client, DescribeDisksRequest(), InstanceId=instance)["Disks"]["Disk"]
    return {"instance": instance, "disks": {disk["Type"]: disk["DiskId"] for disk in disks}}


def reset(client, instance, *disks):
    ask(client, StopInstanceRequest(), InstanceId=instance)
    wait_for_instance(client, instance, "Stopped")
    requests = []
    for disk in disks:
        requests.append(ask(client, ReInitDiskRequest(), DiskId=disk)["RequestId"])
        wait_for_disk(client, disk, "In_use")
    ask(client, StartInstanceRequest(), InstanceId=instance)
    wait_for_instance(client, instance, "Running")
    return {"requests": requests}


def refused(client, disk):
    try:
        ask(client, ReInitDiskRequest(), DiskId=disk)
    except ServerException as error:
        return {"code": error.get_error_code(), "status": error.get_http_status()}
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
    host, port = address.split(":")
    token = os.environ.get("SECURITY_TOKEN")
    if token:
        credential = StsTokenCredential(key, secret, token)
        client = AcsClient(region_id=REGION, port=int(port), credential=credential)
    else:
        client = AcsClient(key, secret, REGION, port=int(port))
    client.set_verify(os.environ.get("TLS_CA"))
    client.add_endpoint(REGION, "Ecs", host)
    print(json.dumps(VERBS[verb](client, *arguments)))


main()
