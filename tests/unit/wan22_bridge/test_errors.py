"""Errors survive pickling and have every field of the interface's error object."""

import pickle

import pytest

from wan22_bridge.errors import ModelMissing, NotFound, Wan22Error


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
