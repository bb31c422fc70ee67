"""What a vendor's own settings are made of; plugins import it from `gateway.plugin`."""

import re

from pydantic import BaseModel, ConfigDict, SecretStr, field_validator

from gateway.included import check
from gateway.naming import Naming

Secret = SecretStr
"""A credential: shown as asterisks wherever it is printed."""


class Settings(BaseModel):
    """A plugin's own settings in ``[destinations.*]``; field docstrings become the reference."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    url: str
    """Scheme and host of the vendor's API; a prefix may follow. Documented paths are appended."""

    @field_validator("url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", url):
            raise ValueError('must be an http or https URL, such as "https://api.vendor.example"')
        return url


class FreeFormSettings(Settings):
    """Settings of a vendor that takes events of any name."""

    naming: Naming = "as-is"
    """How to spell the names of events that the vendor has no word for; events that came in the
    vendor's own format keep theirs."""
    include: tuple[str, ...] = ()
    """What of an event's circumstances goes out among its properties, where the vendor has no
    place of its own for it: `"timestamp"`, `"session_id"`, `"consent"`, `"context.page.url"`, all
    of `"context.page"`, `"context.campaign"`, `"traits.email"`, a name of the sender's own such as
    `"context.os"`. The page's fields become `page_url` and so on, the campaign's `utm_source` and
    so on. Events that came in the vendor's own format get none of it."""

    @field_validator("include")
    @classmethod
    def _known(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check, paths))
