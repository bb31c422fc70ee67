"""The Acme output, which sends events; https://acme.example/docs/events."""

from collections.abc import Mapping

from gateway.plugin import JSON, Declined, Event, OutgoingCall, Output, Secret, Settings

from .mapping import ENDPOINTS


class AcmeOutput(Output):
    """Sends one event per request."""

    name = "acme"
    docs = "https://acme.example/docs/events"
    endpoints = ENDPOINTS

    class Config(Settings):
        """``[destinations.*]`` with ``vendor = "acme"``."""

        url: str = "https://api.acme.example"
        """Scheme and host of Acme's API."""
        api_key: Secret
        """The key, sent as ``x-acme-key``."""

    config: Config

    def headers(self) -> Mapping[str, str]:
        """Return the key and the content type."""
        return {**JSON, "x-acme-key": self.config.api_key.get_secret_value()}

    def select(self, event: Event) -> OutgoingCall | Declined:
        """Return the endpoint for tracked events of known users; decline others."""
        if event.user_id is None:
            return Declined("acme needs to know the user: there is no user id")
        return super().select(event)
