"""The base class of all tables of the configuration, those of plugins included."""

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class ConfigTable(BaseModel):
    """Base of all tables: frozen; unknown keys are errors; errors do not show values."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def remarks(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yield what is allowed but probably a mistake, as warnings.

        Each is the path of a setting, such as ``("requests", 0, "body")``, and a sentence.
        """
        yield from ()

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true and false as numbers; pydantic would take them for 1 and 0."""
        if isinstance(value, bool) and info.field_name is not None:
            kind = _number_type(cls.model_fields[info.field_name])
            if kind is int:
                raise no_whole_number()
            if kind is float:
                raise PydanticCustomError("float_type", "must be a number")
        return value


def no_whole_number() -> PydanticCustomError:
    """Return pydantic's error about a value that is no whole number."""
    return PydanticCustomError("int_type", "must be a whole number")


def _number_type(field: FieldInfo) -> type | None:
    """Return int or float if the key is a plain number, without a validator of its own."""
    annotation: Any = field.annotation
    kinds = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    if bool in kinds or any(isinstance(one, BeforeValidator) for one in field.metadata):
        return None
    return next((kind for kind in (int, float) if kind in kinds), None)


def nested_model(annotation: Any) -> type[BaseModel] | None:
    """Return the class of the tables in a key; None if its values are no tables."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := nested_model(part))), None)
