"""Amplitude's fields and the event's; https://amplitude.com/docs/apis/analytics/http-v2."""

from collections.abc import Mapping

from gateway.plugin import (
    EPOCH_MILLIS,
    MONEY,
    NO_FIELD,
    Codec,
    EventMapping,
    Row,
    Switch,
    Table,
    constant,
    prefixed,
    unchanged,
    vocabulary,
)
from gateway.plugin.spec import PROPERTY_ROWS, TRAIT_ROWS

from .wire import Upload, Uploaded

IDENTIFY_TYPE = "$identify"
"""The type of an event that only sets user properties (GitHub amplitude/Amplitude-Python,
src/amplitude/constants.py)."""
PLATFORMS = vocabulary({"Web": "web", "iOS": "ios", "Android": "android"}, "Amplitude's platforms")


def _address(text: str) -> str:
    if text == "$remote":
        raise ValueError("stands for the address that the request comes from")
    return text


ADDRESS = Codec("IP address", _address, unchanged, (str,))

# fmt: off
WHO = (
    #   Amplitude               event
    Row("user_id",              "user_id"),
    Row("device_id",            "anonymous_id"),
    Row("time",                 "timestamp",                EPOCH_MILLIS),
    Row("insert_id",            "message_id"),
    Row("app_version",          "context.app.version"),
    Row("platform",             "context.channel",          PLATFORMS),
    Row("device_manufacturer",  "context.device.manufacturer"),
    Row("device_model",         "context.device.model"),
    Row("language",             "context.locale"),
    Row("ip",                   "context.ip",               ADDRESS,
        note="`$remote` stays as it is"),
    *prefixed("user_properties", "traits", TRAIT_ROWS),
)
IDENTIFY = Table(Uploaded, [
    Row("event_type",           NO_FIELD,                   constant(IDENTIFY_TYPE)),
    *WHO,
], event="identify")
TRACK = Table(Uploaded, [
    Row("event_type",           "name",                     required=True),
    *WHO,
    Row("revenue|event_properties.revenue", "properties.revenue", MONEY),
    *prefixed("event_properties", "properties", (
        row for row in PROPERTY_ROWS if row.event != "revenue"
    )),
])
UPLOAD = Table(Upload, [
    Row("api_key",              NO_FIELD,                   note="the credential"),
], items=("events", Switch("event_type", {IDENTIFY_TYPE: IDENTIFY}, otherwise=TRACK)))
# fmt: on

ENDPOINTS: Mapping[str, EventMapping] = {"POST /2/httpapi": UPLOAD}
