"""aliyun-python-sdk-core and -ecs: a request class per action, with a setter per parameter.

core_client.py ADDRESS KEY SECRET
"""

import importlib
import json
import sys

from aliyunsdkcore.acs_exception.exceptions import ServerException
from aliyunsdkcore.client import AcsClient

from conversation import Refused, hold

REGION = "cn-hangzhou"


def setters(parameters):
    """The setters and what they are given. The region is the client's own matter."""
    for name, value in parameters.items():
        if name == "RegionId":
            continue
        if isinstance(value, list):
            yield f"set_{name}s", value
        elif isinstance(value, dict):
            yield from ((f"set_{name}{inner}", one) for inner, one in value.items())
        else:
            yield f"set_{name}", value


def main(address, key, secret):
    host, port = address.split(":")
    client = AcsClient(key, secret, REGION, port=int(port))
    client.add_endpoint(REGION, "Ecs", host)

    def call(action, parameters):
        module = importlib.import_module(f"aliyunsdkecs.request.v20140526.{action}Request")
        request = getattr(module, f"{action}Request")()
        request.set_protocol_type("http")
        for setter, value in setters(parameters):
            getattr(request, setter)(value)
        try:
            return json.loads(client.do_action_with_exception(request))
        except ServerException as error:
            raise Refused(error.get_error_code(), error.get_http_status(), error.get_error_msg())

    hold(call)


if __name__ == "__main__":
    main(*sys.argv[1:])
