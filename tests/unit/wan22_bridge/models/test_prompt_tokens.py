"""The tokens that a model cuts off from a prompt are counted as the model itself counts them."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.prompt_tokens import PromptTokens
from wan22_bridge.pipeline.text_cache import count_dropped_tokens

_CATALOGUE = load_catalogue()


@pytest.mark.parametrize(
    ("prompt", "is_too_long"),
    [
        ("a red circle", False),
        ("x" * 600, True),
        ("a " * 900, True),
        ("&amp;lt; ﬁ “x”  \n " * 90, True),
        ("a red circle moves right " * 60, False),
    ],
)
def test_the_count_equals_that_of_the_model(prompt: str, is_too_long: bool, load: LoadModel, models_dir: Path) -> None:
    counted = PromptTokens(models_dir).count_dropped(_CATALOGUE["tiny-t2v"], prompt)
    assert counted == count_dropped_tokens(load("tiny-t2v"), prompt)
    assert (counted != 0) is is_too_long


def test_the_count_is_unknown_while_the_models_files_are_missing(tmp_path: Path) -> None:
    tokens = PromptTokens(tmp_path)
    assert tokens.count_dropped(_CATALOGUE["wan2.2-t2v-a14b"], "word " * 600) is None
    assert tokens.count_dropped(_CATALOGUE["wan2.2-t2v-a14b"], "a few words") == 0
    assert tokens.count_dropped(replace(_CATALOGUE["tiny-t2v"], path=tmp_path), "word " * 600) is None
