"""The table with which a configuration describes an event: the neutral event's own names."""

from typing import Any, TypedDict

from gateway.plugin.spec import SpecProperties, SpecTraits


class PageFields(TypedDict, total=False):
    """``context.page``."""

    url: str
    path: str
    title: str
    referrer: str
    search: str


class DeviceFields(TypedDict, total=False):
    """``context.device``."""

    id: str | int
    type: str
    manufacturer: str
    model: str
    name: str


class CampaignFields(TypedDict, total=False):
    """``context.campaign``."""

    name: str
    source: str
    medium: str
    term: str
    content: str


class AppFields(TypedDict, total=False):
    """``context.app``."""

    name: str
    version: str
    build: str
    namespace: str


class ContextFields(TypedDict, total=False):
    """``context``."""

    page: PageFields
    device: DeviceFields
    campaign: CampaignFields
    app: AppFields
    ip: str
    user_agent: str
    locale: str
    timezone: str
    channel: str
    extra: dict[str, Any]


class EventFields(TypedDict, total=False):
    """An event."""

    type: str
    name: str
    message_id: str | int
    timestamp: str | int | float
    sent_at: str | int | float
    user_id: str | int
    anonymous_id: str | int
    previous_id: str | int
    group_id: str | int
    session_id: str | int
    traits: SpecTraits
    properties: SpecProperties
    context: ContextFields
    consent: dict[str, Any]
