"""What schemathesis asks through: each request is signed, most are about things that are there, answers are counted.

SCHEMATHESIS_HOOKS names this module. In the environment:

REINIT_KEY, REINIT_SECRET  what requests are signed with
REINIT_VALUES              JSON: values by parameter, those of every action under "*"
REINIT_SEEN                where the answers are counted: JSON, by action and status, and what a fault looked like
"""

import atexit
import base64
import collections
import datetime
import hashlib
import hmac
import json
import os
import urllib.parse
import uuid
import zlib

import requests
import schemathesis

KEY = os.environ["REINIT_KEY"]
SECRET = os.environ["REINIT_SECRET"]
VALUES = json.loads(os.environ["REINIT_VALUES"])

# What a signature of version 1 is made with.
SIGNED_BY = {"AccessKeyId", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp", "Signature"}

counted = collections.defaultdict(collections.Counter)
faults = []
# The ids that this run itself got: what may be deleted without taking anything from the other actions.
made = collections.defaultdict(list)


def encode(text):
    return urllib.parse.quote(text, safe="-_.~", errors="surrogateescape")


# The line of a request is bounded. What does not fit goes as a form, as clients send it.
LONGEST_QUERY = 32 * 1024


def signed(method, query):
    """The same parameters with those that make them a signed request."""
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    pairs = [(name, value) for name, value in pairs if name not in SIGNED_BY]
    pairs += [
        ("AccessKeyId", KEY),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", str(uuid.uuid4())),
        ("Timestamp", datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")),
    ]
    query = "&".join(f"{encode(name)}={encode(value)}" for name, value in sorted(pairs))
    text = f"{method}&%2F&{encode(query)}"
    digest = hmac.new(f"{SECRET}&".encode(), text.encode(), hashlib.sha1).digest()
    return f"{query}&Signature={encode(base64.b64encode(digest).decode())}"


class Signature(requests.auth.AuthBase):
    def __call__(self, request):
        # A generated header of that name would make it a request signed in the other way.
        request.headers.pop("Authorization", None)
        parts = urllib.parse.urlsplit(request.url)
        query = signed(request.method, parts.query)
        if len(query) > LONGEST_QUERY:
            request.body, query = query, ""
            request.headers["Content-Type"] = "application/x-www-form-urlencoded"
        request.url = urllib.parse.urlunsplit(parts._replace(query=query))
        return request


schemathesis.auth.set_from_requests(Signature())


def action_of(ctx):
    return ctx.operation.definition.raw["operationId"]


def needed_by(ctx):
    own = ctx.operation.definition.raw.get("parameters", [])
    return [one["name"] for one in own if one.get("required")]


def known(action, name):
    """The values a parameter can have, if any are known."""
    word = name.removesuffix(".1").rsplit(".", 1)[-1]
    if action.startswith("Delete") and made[word]:
        return made[word]
    for values in (VALUES.get(action, {}), VALUES["*"]):
        if name in values or word in values:
            return values.get(name) or values[word]
    return []


@schemathesis.hook
def map_query(ctx, query):
    """Three of four calls become such as somebody could mean; the fourth stays as it was made up."""
    number = zlib.crc32(repr(query).encode(errors="backslashreplace"))
    if number % 4 == 0:
        return query
    action, query = action_of(ctx), dict(query or {})
    names = set(needed_by(ctx)) | set(VALUES.get(action, {})) | {name for name in query if known(action, name)}
    meant = {"Version": "2014-05-26", "Format": "JSON"}
    for name in sorted(names):
        values = known(action, name)
        if values:
            meant[name] = values[number // 4 % len(values)]
        elif name in query:
            meant[name] = query[name]
    return meant


@schemathesis.hook
def after_call(ctx, case, response):
    action = action_of(ctx)
    counted[action][str(response.status_code)] += 1
    if response.status_code >= 500:
        faults.append(f"{action} {response.request.url}: {response.status_code} {response.text}")
    if response.status_code == 200 and action.startswith(("Create", "Copy")):
        for name, value in response.json().items():
            if name.endswith("Id") and name != "RequestId":
                made[name].append(value)


@atexit.register
def write():
    with open(os.environ["REINIT_SEEN"], "w") as out:
        json.dump({"actions": counted, "faults": faults}, out)
