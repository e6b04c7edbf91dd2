"""footmark, which is what Ansible's modules speak with: through a proxy, since it has no endpoint to set.

footmark_client.py ADDRESS KEY SECRET; SECURITY_TOKEN is that of a temporary key.
"""

import json
import os
import sys

import footmark.ecs
from aliyunsdkcore.acs_exception.exceptions import ServerException
from footmark.ecs.image import Image
from footmark.ecs.instance import Instance
from footmark.ecs.volume import Disk
from footmark.resultset import ResultSet

from conversation import Refused, hold
from core_client import REGION, setters

# What footmark makes objects of its own of; setting their attributes is where it may stumble.
OBJECTS = {
    "DescribeDisks": ["Disks", Disk],
    "DescribeImages": ["Images", Image],
    "DescribeInstances": ["Instances", Instance],
}


def main(address, key, secret):
    os.environ["HTTP_PROXY"] = f"http://{address}"
    connection = footmark.ecs.connect_to_region(
        REGION,
        acs_access_key_id=key,
        acs_secret_access_key=secret,
        security_token=os.environ.get("SECURITY_TOKEN"),
    )

    def call(action, parameters):
        try:
            body = connection.make_request(action, dict(setters(parameters)))
        except ServerException as error:
            raise Refused(error.get_error_code(), error.get_http_status(), error.get_error_msg())
        markers = OBJECTS.get(action, ["", ResultSet])
        understood = connection.parse_response(markers, body, connection)
        answer = json.loads(body)
        if action in OBJECTS:
            container, kind = markers
            listed = answer[container][kind.__name__]
            if len(understood) != len(listed):
                raise SystemExit(f"{action} listed {len(listed)}, footmark made {len(understood)} of it")
        return answer

    hold(call)


main(*sys.argv[1:])
