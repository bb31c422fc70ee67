"""What all tables of the configuration have in common."""

from pydantic import BaseModel, ConfigDict

LISTS = ("routes", "tests")
"""Tables of which a file has a list: ``[[routes]]``."""


class Table(BaseModel):
    """A table of the configuration: frozen, without unknown keys, silent about its values."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )
