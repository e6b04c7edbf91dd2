"""alibabacloud-ecs20140526: typed requests, typed answers.

tea_client.py ADDRESS KEY SECRET [ALGORITHM]; the algorithm `v2` makes it sign as version 1 does.
"""

import re
import sys

from alibabacloud_ecs20140526 import models
from alibabacloud_ecs20140526.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.models import Config

from conversation import Refused, hold


def main(address, key, secret, algorithm=None):
    client = Client(
        Config(
            access_key_id=key,
            access_key_secret=secret,
            region_id="cn-hangzhou",
            endpoint=address,
            protocol="HTTP",
            signature_algorithm=algorithm,
        )
    )

    def call(action, parameters):
        request = getattr(models, f"{action}Request")().from_map(parameters)
        method = re.sub("(?<!^)(?=[A-Z])", "_", action).lower()
        try:
            return getattr(client, method)(request).body.to_map()
        except AlibabaCloudException as error:
            raise Refused(error.code, error.status_code, error.message)

    hold(call)


main(*sys.argv[1:])
