"""Amplitude's payload, with Amplitude's field names.

Source: https://amplitude.com/docs/apis/analytics/http-v2.
"""

from typing import Any, TypedDict

from gateway.plugin.spec import SpecProperties, SpecTraits


class Uploaded(TypedDict, total=False):
    """An item of ``events``; Amplitude takes any key in its two groups of properties."""

    event_type: str
    user_id: str
    device_id: str
    time: int
    insert_id: str
    app_version: str
    platform: str
    device_manufacturer: str
    device_model: str
    language: str
    ip: str
    revenue: float | str
    event_properties: SpecProperties
    user_properties: SpecTraits


class Options(TypedDict, total=False):
    """The options of a request."""

    min_id_length: int


class Upload(TypedDict, total=False):
    """The body of ``POST /2/httpapi``."""

    api_key: str
    events: list[dict[str, Any]]
    options: Options
