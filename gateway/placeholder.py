"""An output that is tried without anybody's account."""

from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from gateway.errors import PluginError
from gateway.plugin import Output

CREDENTIAL = "placeholder-credential"
"""Stands for credentials that are not there; whoever shows a request blanks it again."""


def placeholder(output: type[Output], *, every: bool = False) -> Output:
    """Return *output* with made-up settings.

    Args:
        output: the vendor's.
        every: fill in the credentials that it can do without, too.

    Raises:
        PluginError: a setting takes no made-up value.
    """
    settings: dict[str, Any] = {}
    for name, field in output.Config.model_fields.items():
        if _is_secret(field) and (every or field.is_required()):
            settings[field.alias or name] = CREDENTIAL
        elif field.is_required():
            settings[field.alias or name] = name
    if "url" in settings:
        settings["url"] = f"https://{output.name}.example"
    try:
        return output(output.Config.model_validate(settings))
    except ValidationError as error:
        names = ", ".join(str(found["loc"][0]) for found in error.errors() if found["loc"])
        raise PluginError(
            f"{output.name} takes no placeholder for {names}; it can be tried in the sandbox only"
        ) from error


def _is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr or SecretStr in get_args(field.annotation)
