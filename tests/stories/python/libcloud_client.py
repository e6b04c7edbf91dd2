"""apache-libcloud: the connection of its ECS driver, which wants XML.

libcloud_client.py ADDRESS KEY SECRET
"""

import ast
import sys

from libcloud.common.exceptions import BaseHTTPError
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

from conversation import Refused, flat, hold


def tree(element):
    """An element as JSON would have it: text, or an object. A child that is there several times is a list."""
    if len(element) == 0:
        return element.text or ""
    found = {}
    for child in element:
        found.setdefault(child.tag, []).append(tree(child))
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def driver_of(address, key, secret):
    host, port = address.split(":")
    driver = get_driver(Provider.ALIYUN_ECS)
    return driver(key, secret, secure=False, host=host, port=int(port), region="cn-hangzhou")


def ask(driver, action, parameters):
    """Its errors have their fields as the text of a Python dictionary."""
    try:
        return driver.connection.request("/", {"Action": action, **flat(parameters)}).object
    except BaseHTTPError as error:
        told = ast.literal_eval(str(error))
        raise Refused(told["code"], error.code, told["message"])


def main(address, key, secret):
    driver = driver_of(address, key, secret)

    def call(action, parameters):
        answer = ask(driver, action, parameters)
        if answer.tag != f"{action}Response":
            raise SystemExit(f"{action} was answered by <{answer.tag}>")
        return tree(answer)

    hold(call)


if __name__ == "__main__":
    main(*sys.argv[1:])
