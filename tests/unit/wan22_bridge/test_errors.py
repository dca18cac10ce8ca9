"""Errors survive pickling and have every field of the interface's error object."""

import ast
import pickle
from pathlib import Path

import pytest

from wan22_bridge.errors import ModelMissing, NotFound, OutOfMemory, Wan22Error


def test_an_error_survives_pickling() -> None:
    error = ModelMissing("Not here.", param="model", suggestions=["Fetch it."], can_retry=True)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is ModelMissing
    assert again.to_dict() == error.to_dict()


def test_the_default_message_is_the_class_docstring() -> None:
    assert NotFound().message == "The resource does not exist."


def _all(kind: type[Wan22Error]) -> list[type[Wan22Error]]:
    return [kind] + [below for child in kind.__subclasses__() for below in _all(child)]


@pytest.mark.parametrize("kind", _all(Wan22Error))
def test_every_error_class_has_all_fields_of_the_error_object(kind: type[Wan22Error]) -> None:
    assert set(kind().to_dict()) == {"type", "code", "message", "param", "suggestions", "can_retry"}


def _raised_codes(name: str) -> set[str]:
    """Returns the codes with which the packages create an error."""
    root = Path(__file__).parents[3]
    files = [
        path for package in ("wan22_bridge", "deployments", "serve_app") for path in (root / package).rglob("*.py")
    ]
    keywords = [
        keyword
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        for keyword in node.keywords
        if keyword.arg == "code"
    ]
    constants = [node for keyword in keywords for node in ast.walk(keyword.value) if isinstance(node, ast.Constant)]
    return {node.value for node in constants if isinstance(node.value, str)}


def test_the_codes_of_too_little_memory_are_those_that_the_service_raises() -> None:
    assert _raised_codes("OutOfMemory") == set(OutOfMemory.codes) - {OutOfMemory.default_code}
