"""PersonaClick: personalisation for shops, a white label of REES46; https://personaclick.com.

One call per thing that happened. The shop's public key, ``shop_id``, stands in every body, and a
device id issued by PersonaClick names the visitor. Standard events have words and fields of
their own; all others are custom events, whose names the shop declares in its account.
"""

from gateway.plugin import hookimpl
from plugins.personaclick.input import PersonaclickInput
from plugins.personaclick.output import PersonaclickOutput
from plugins.personaclick.sandbox import PersonaclickSandbox


@hookimpl
def register_inputs() -> list[type[PersonaclickInput]]:
    """Offer the input."""
    return [PersonaclickInput]


@hookimpl
def register_outputs() -> list[type[PersonaclickOutput]]:
    """Offer the output."""
    return [PersonaclickOutput]


@hookimpl
def register_sandboxes() -> list[type[PersonaclickSandbox]]:
    """Offer the emulated server."""
    return [PersonaclickSandbox]
