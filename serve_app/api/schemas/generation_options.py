"""Class decorators that add the declared generation options to the bodies of requests and responses."""

from copy import copy
from dataclasses import fields
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, create_model
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo

from wan22_bridge.options import GenerationOptions, Open, WholeAsInt, decided_type

OPTION_NAMES = [item.name for item in fields(GenerationOptions)]
"""Names of the options, in the order of their declaration."""

Model = TypeVar("Model", bound=BaseModel)


def accepts_options(model: type[Model]) -> type[Model]:
    """Adds the options to a request's body, with their limits and defaults. Open options accept null."""
    added: dict[str, Any] = {}
    for name, declared in _declarations().items():
        kind: Any = declared.annotation
        if Open in getattr(kind, "__parameters__", ()):
            kind = kind[None]
        added[name] = (kind, copy(declared))
    return _extend(model, added)


def reports_options(model: type[Model]) -> type[Model]:
    """Adds the options to a response's body, as they were decided. Enums are strings, without a list of values."""
    added: dict[str, Any] = {}
    for name, declared in _declarations().items():
        kind = decided_type(declared.annotation)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            kind = str
        if any(isinstance(mark, WholeAsInt) for mark in declared.metadata):
            kind = Annotated[kind, WholeAsInt()]
        added[name] = (kind, Field(description=declared.description))
    return _extend(model, added)


def accepts_empty_text(name: str) -> bool:
    """Whether the empty text is a value of an option, so that an empty form field does not mean its default."""
    return name in OPTION_NAMES and decided_type(_declarations()[name].annotation) is str


def _declarations() -> dict[str, FieldInfo]:
    assert is_pydantic_dataclass(GenerationOptions)
    return GenerationOptions.__pydantic_fields__


def _extend(model: type[Model], added: dict[str, Any]) -> type[Model]:
    """Returns a subclass of the same name with the fields that the model does not declare itself."""
    own = model.model_fields
    return create_model(
        model.__name__,
        __base__=model,
        __module__=model.__module__,
        __doc__=model.__doc__,
        **{name: field for name, field in added.items() if name not in own},
    )
