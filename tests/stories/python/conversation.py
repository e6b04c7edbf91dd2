"""What every Python client does around its calls: it reads one, makes it, and tells what came of it.

A call is one JSON line, `{"action": ..., "parameters": {...}}`, with names and nesting as in the API; what came of it is
one JSON line, `{"answer": {...}}` or `{"refused": {"code": ..., "status": ..., "message": ...}}`. Anything else a client
may raise ends the script: it is a failure of the test.
"""

import json
import sys


class Refused(Exception):
    """What the server said no with, as the client understood it."""

    def __init__(self, code, status, message):
        super().__init__(code)
        self.told = {"code": code, "status": status, "message": message}


def hold(call):
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            told = {"answer": call(asked["action"], asked["parameters"])}
        except Refused as refused:
            told = {"refused": refused.told}
        print(json.dumps(told), flush=True)


def flat(parameters):
    """Lists and objects as clients without typed requests spell them: `Tag.1.Key`, `SystemDisk.Size`."""

    def below(name, value):
        if isinstance(value, list):
            for number, one in enumerate(value, 1):
                yield from below(f"{name}.{number}", one)
        elif isinstance(value, dict):
            for inner, one in value.items():
                yield from below(f"{name}.{inner}", one)
        elif isinstance(value, bool):
            yield name, str(value).lower()
        else:
            yield name, value

    return dict(pair for name, value in parameters.items() for pair in below(name, value))
