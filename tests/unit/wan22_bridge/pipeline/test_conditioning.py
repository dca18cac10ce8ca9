"""Conditioning: reuse of text embeddings across models, and cancellation between its parts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.jobs import make_params
from tests.unit.wan22_bridge.conftest import LoadModel
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.pipeline.conditioning import prepare_in_parts
from wan22_bridge.pipeline.text_cache import TextCache


def test_a_cached_prompt_has_the_same_bits_as_an_encoded_one(load_exact: LoadModel) -> None:
    model, texts = load_exact("tiny-t2v"), TextCache(capacity=1)
    first = texts.encode(model, "a red circle")
    assert texts.encode(model, "a red circle") is first
    texts.encode(model, "something else")
    again = texts.encode(model, "a red circle")
    assert again is not first
    assert torch.equal(again, first)


def test_models_with_the_same_text_encoder_share_embeddings(
    load_exact: LoadModel, models_dir: Path, tmp_path: Path
) -> None:
    model, texts = load_exact("tiny-t2v"), TextCache()
    elsewhere = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "elsewhere")
    same = LoadedModel(model.spec, elsewhere, model.plan, exact=True)

    assert texts.encode(same, "a red circle") is texts.encode(model, "a red circle")


def test_models_with_different_encoder_weights_of_equal_size_do_not_share_embeddings(
    load_exact: LoadModel, models_dir: Path, tmp_path: Path
) -> None:
    model, texts = load_exact("tiny-t2v"), TextCache()
    changed = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "changed")
    weights = changed / "text_encoder" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 4] = bytes(len(content) // 4)
    weights.write_bytes(content)
    other = LoadedModel(model.spec, changed, model.plan, exact=True)

    assert not torch.equal(texts.encode(other, "a red circle"), texts.encode(model, "a red circle"))
    assert other.weights != model.weights


def test_preparation_can_be_cancelled_between_the_prompts(
    load_exact: LoadModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, encoded = load_exact("tiny-t2v"), []
    encode_prompt = model.text.encode_prompt

    def record(text: str, **options: Any) -> Any:
        encoded.append(text)
        return encode_prompt(text, **options)

    monkeypatch.setattr(model.text, "encode_prompt", record)
    params = make_params(prompt="one", negative_prompt="two")
    parts = prepare_in_parts(model, params, TextCache(), Path())
    next(parts)
    parts.close()

    assert encoded == ["one"]
