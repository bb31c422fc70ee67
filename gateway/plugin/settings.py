"""Settings of a destination that all vendors share, including event naming."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from pydantic import SecretStr, field_validator

from gateway.errors import PluginError
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.context_properties import check

Naming: TypeAlias = Literal["as-is", "snake_case", "kebab-case", "camelCase", "Title Case"]
"""Naming conventions for events, as in the configuration."""

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W_A-Z]+|\d+", re.UNICODE)


def split_words(name: str) -> list[str]:
    """Return the words of *name* in any convention: ``"myEvent_2"`` has my, Event, 2."""
    return _WORDS.findall(name) or [name]


def _snake(name: str) -> str:
    return "_".join(split_words(name)).lower()


def _kebab(name: str) -> str:
    return "-".join(split_words(name)).lower()


def _camel(name: str) -> str:
    first, *rest = split_words(name)
    return first.lower() + "".join(word.capitalize() for word in rest)


def _title(name: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in split_words(name))


CONVENTIONS: Mapping[Naming, Callable[[str], str]] = {
    "as-is": lambda name: name,
    "snake_case": _snake,
    "kebab-case": _kebab,
    "camelCase": _camel,
    "Title Case": _title,
}
"""Naming conventions, each with its function."""


def convention_of(vendor: str, config: Any) -> Callable[[str], str] | None:
    """Return the function of the naming convention of *config*; None for names as they are.

    Raises:
        PluginError: the *vendor*'s settings have no ``naming``.
    """
    try:
        naming: Naming = config.naming
    except AttributeError as error:
        what = (
            "its Config has no naming; derive it from FreeFormSettings, or do not call event_name()"
        )
        raise PluginError(f"{vendor}: {what}") from error
    return None if naming == "as-is" else CONVENTIONS[naming]


Secret = SecretStr
"""A secret setting; it is printed as asterisks."""


class Settings(ConfigTable):
    """A plugin's own settings in ``[destinations.*]``; field docstrings become the reference."""

    url: str
    """Scheme and host of the vendor's API; a prefix may follow. Documented paths are appended."""

    @property
    def reached_url(self) -> str:
        """Return the URL that decides about a proxy of the environment and about TLS."""
        return self.url

    @field_validator("url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", url):
            raise ValueError('must be an http or https URL, such as "https://api.vendor.example"')
        return url


class FreeFormSettings(Settings):
    """Settings of a vendor that accepts events of any name."""

    naming: Naming = "as-is"
    """Naming convention for events that the vendor does not predefine. Events that came in the
    vendor's own format keep their names."""
    include: tuple[str, ...] = ()
    """Fields of the event to send as properties, if the vendor has no other place for them:
    `"timestamp"`, `"session_id"`, `"consent"`, `"context.page.url"`, all of `"context.page"`,
    `"context.campaign"`, `"traits.email"`, or the sender's own such as `"context.os"`. The page's
    fields become `page_url` and so on, the campaign's `utm_source` and so on. Events that came in
    the vendor's own format get none."""

    @field_validator("include")
    @classmethod
    def _known(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(check, paths))
