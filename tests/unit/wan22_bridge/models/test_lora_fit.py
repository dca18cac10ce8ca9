"""LoRAs are accepted and rejected by the headers of their files, before a model is loaded."""

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.lora_files import find_lora
from wan22_bridge.models.lora_fit import check_fit, check_is_lora, find_misfit, summarize
from wan22_bridge.models.lora_names import guess_expert
from wan22_bridge.models.safetensors_header import MAX_HEADER_BYTES, UnreadableHeader, read_header
from wan22_bridge.models.transformer_shape import TransformerShape, find_shape

MODELS = load_catalogue()
WIDTH = 192

LAYERS = ("blocks.0.attn1.to_q", "blocks.4.attn2.to_out.0", "blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2")
"""Layers of each kind in a block of a tiny model, by their names in diffusers."""
ORIGINAL = ("blocks.0.self_attn.q", "blocks.4.cross_attn.o", "blocks.1.ffn.0", "blocks.1.ffn.2")
"""The same layers by their names in Wan's own code."""
FORMATS = {
    "diffusers": [f"transformer.{layer}.lora_{{}}.weight" for layer in LAYERS],
    "diffusers, low-noise expert": [f"transformer_2.{layer}.lora_{{}}.weight" for layer in LAYERS],
    "diffusers without a prefix": [f"{layer}.lora_{{}}.weight" for layer in LAYERS],
    "diffusion-pipe": [f"diffusion_model.{layer}.lora_{{}}.weight" for layer in ORIGINAL],
    "musubi": [f"lora_unet_{layer.replace('.', '_')}.lora_{{}}.weight" for layer in ORIGINAL],
}


def write(path: Path, shapes: Mapping[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    save_file({key: np.zeros(shape, np.float16) for key, shape in shapes.items()}, path, metadata)
    return path


def pair(key: str, *, width: int = WIDTH, out: int | None = None, rank: int = 4) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a layer's two weights; `{}` in the key stands for A and B."""
    return {key.format("A"): (rank, width), key.format("B"): (out or width, rank)}


@pytest.mark.parametrize("kind", FORMATS)
def test_lora_in_the_format_of_each_trainer_fits(kind: str, tmp_path: Path) -> None:
    ffn = 384
    sizes = [(WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, ffn), (ffn, WIDTH)]
    names = ("down", "up") if kind in ("musubi", "diffusion-pipe") else ("A", "B")
    shapes: dict[str, tuple[int, ...]] = {}
    for key, (width, out) in zip(FORMATS[kind], sizes, strict=True):
        shapes |= {key.format(names[0]): (4, width), key.format(names[1]): (out, 4)}
        if kind == "musubi":
            shapes[key.replace("lora_{}.weight", "alpha")] = ()
    write(tmp_path / "a.safetensors", shapes)

    files = find_lora(tmp_path, "a")

    assert [find_misfit(files, MODELS[name]) for name in ("tiny-t2v", "tiny-i2v", "tiny-ti2v")] == [None] * 3
    assert "192" in str(find_misfit(files, MODELS["wan2.2-t2v-a14b"]))
    assert (summarize(files).rank, summarize(files).layers, summarize(files).width) == (4, 4, WIDTH)


A = "transformer.blocks.0.attn1.to_q.lora_{}.weight"
WRONG: dict[str, tuple[dict[str, tuple[int, ...]], str]] = {
    "LoKr": ({"diffusion_model.blocks.0.self_attn.q.lokr_w1": (4, 4)}, "a LoKr"),
    "LoHa": ({"diffusion_model.blocks.0.self_attn.q.hada_w1_a": (4, 4)}, "a LoHa"),
    "DoRA": (pair(A) | {"transformer.blocks.0.attn1.to_q.dora_scale": (WIDTH,)}, "a DoRA"),
    "whole model": ({"blocks.0.self_attn.q.weight": (WIDTH, WIDTH)}, "not a LoRA weight"),
    "no weights": ({}, "no LoRA weights"),
    "half a layer": ({A.format("A"): (4, WIDTH)}, "one of the two weights"),
    "two ranks": ({A.format("A"): (4, WIDTH), A.format("B"): (WIDTH, 8)}, "ranks 4 and 8"),
    "Wan2.1 I2V": (pair("diffusion_model.blocks.0.cross_attn.k_img.lora_{}.weight"), "Wan2.1 image-to-video"),
    "another family": (pair("transformer.single_blocks.0.attn.to_q.lora_{}.weight"), "another family"),
    "Stable Diffusion": (pair("lora_unet_down_blocks_0_attentions_0_proj.lora_{}.weight"), "Stable Diffusion"),
    "another width": (pair(A, width=1536), "1536"),
    "too many blocks": (pair(A.replace("blocks.0", "blocks.99")), "no layer blocks.99.attn1.to_q"),
    "unknown layer": (pair(A.replace("attn1", "attn9")), "no layer blocks.0.attn9.to_q"),
    "another output": (pair(A, out=WIDTH + 1), "193 channels"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_other_file_is_rejected_by_its_kind(wrong: str, tmp_path: Path) -> None:
    shapes, reason = WRONG[wrong]
    path = write(tmp_path / "a.safetensors", shapes)

    with pytest.raises(InvalidRequest, match=reason) as at_submission:
        check_fit(find_lora(tmp_path, "a"), MODELS["tiny-t2v"])
    with pytest.raises(InvalidRequest, match=reason) as at_upload:
        check_is_lora("a", read_header(path), [MODELS["tiny-t2v"]])

    assert at_submission.value.code == at_upload.value.code == "lora_incompatible"
    assert at_submission.value.param == "loras"


def test_lora_of_another_width_is_told_the_known_widths(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", pair(A, width=1536))
    with pytest.raises(InvalidRequest, match="its width is 1536, and the models have 192, 3072, 5120"):
        check_is_lora("a", read_header(path), list(MODELS.values()))


def test_lora_for_a_published_model_is_accepted_where_tiny_models_are_served(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", pair(A, width=5120))
    assert check_is_lora("a", read_header(path), [MODELS["tiny-t2v"], MODELS["wan2.2-i2v-a14b"]]) == [
        MODELS["wan2.2-i2v-a14b"]
    ]
    assert check_is_lora("a", read_header(path), [MODELS["tiny-t2v"]]) == []


def test_lora_for_the_low_noise_expert_alone_does_not_fit_a_model_with_one_expert(tmp_path: Path) -> None:
    write(tmp_path / "a.low_noise.safetensors", pair(A))
    files = find_lora(tmp_path, "a")
    assert find_misfit(files, MODELS["tiny-t2v"]) is None
    assert "one expert" in str(find_misfit(files, MODELS["tiny-ti2v"]))


def test_both_files_of_a_pair_are_checked(tmp_path: Path) -> None:
    write(tmp_path / "a.high_noise.safetensors", pair(A))
    write(tmp_path / "a.low_noise.safetensors", pair(A, width=64))
    assert "64 channels" in str(find_misfit(find_lora(tmp_path, "a"), MODELS["tiny-t2v"]))


@pytest.mark.parametrize("model", MODELS)
def test_shape_has_the_channels_of_diffusers_layers(model: str) -> None:
    shape = find_shape(MODELS[model])
    assert shape is not None
    transformer = find_architecture(MODELS[model]).build_transformer()
    for name, module in transformer.named_modules():
        if isinstance(module, torch.nn.Linear):
            assert shape.channels(name) == (module.out_features, module.in_features), name
        elif isinstance(module, torch.nn.Conv3d):
            assert shape.channels(name) == (module.out_channels, module.in_channels), name
        else:
            assert shape.channels(name) is None
    linear = sum(p.numel() for n, p in transformer.named_parameters() if n.startswith("blocks.") and p.ndim == 2)
    assert shape.bf16_bytes == 2 * linear


def test_model_folder_without_a_readable_config_is_left_to_the_loader(tmp_path: Path) -> None:
    assert find_shape(replace(MODELS["tiny-t2v"], path=tmp_path)) is None


def test_shape_is_read_from_the_models_own_folder(tmp_path: Path) -> None:
    config = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "ffn_dim": 4, "in_channels": 3}
    config |= {"out_channels": 3, "patch_size": [1, 2, 2], "text_dim": 5, "freq_dim": 6}  # type: ignore[dict-item]
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    assert find_shape(replace(MODELS["tiny-t2v"], path=tmp_path)) == TransformerShape(
        width=16, layers=1, ffn=4, in_channels=3, out_channels=12, text_channels=5, time_channels=6
    )


def _header(data: bytes, *, length: int | None = None, rest: bytes = b"") -> bytes:
    return struct.pack("<Q", len(data) if length is None else length) + data + rest


UNREADABLE = {
    "empty": b"",
    "pickle in a zip": b"PK\x03\x04" + bytes(100),
    "old pickle": b"\x80\x02}q\x00." + bytes(100),
    "GGUF": b"GGUF\x03\x00\x00\x00" + bytes(100),
    "huge header": _header(b"{}", length=2**62),
    "header over the limit": _header(b"{}", length=MAX_HEADER_BYTES + 1),
    "header beyond the file": _header(b"{}", length=3),
    "no JSON": _header(b"not JSON"),
    "deep JSON": _header(b"[" * 100_000),
    "JSON list": _header(b"[]"),
    "metadata list": _header(b'{"__metadata__": []}'),
    "metadata numbers": _header(b'{"__metadata__": {"a": 1}}'),
    "no shape": _header(b'{"a": {"dtype": "F16", "data_offsets": [0, 2]}}', rest=bytes(2)),
    "unknown type": _header(b'{"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 2]}}', rest=bytes(2)),
    "negative shape": _header(b'{"a": {"dtype": "F16", "shape": [-1, -1], "data_offsets": [0, 2]}}', rest=bytes(2)),
    "shape of another size": _header(b'{"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}}', rest=bytes(2)),
    "gap": _header(b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [2, 4]}}', rest=bytes(4)),
    "truncated": _header(b'{"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]}}', rest=bytes(3)),
    "data after the end": _header(b'{"a": {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]}}', rest=bytes(3)),
}


@pytest.mark.parametrize("wrong", UNREADABLE)
def test_file_with_a_wrong_header_is_unreadable(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(UNREADABLE[wrong])

    with pytest.raises(UnreadableHeader):
        read_header(path)
    with pytest.raises(InvalidRequest, match="The LoRA a is not a safetensors file") as raised:
        find_lora(tmp_path, "a")
    assert raised.value.code == "lora_unreadable"
    assert str(tmp_path) not in raised.value.message


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", pair(A))
    before = read_header(path)
    write(path, pair(A, width=64))
    assert read_header(path) != before


@pytest.mark.parametrize(
    ("metadata", "beside", "expected"),
    [
        ({"modelspec.trigger_phrase": "neon glow, cats"}, {}, ("neon glow", "cats")),
        ({"modelspec.trigger_phrase": "neon"}, {".json": {"activation text": "other"}}, ("neon",)),
        ({}, {".civitai.info": {"trainedWords": ["one, two", "three"]}}, ("one", "two", "three")),
        ({}, {".json": {"activation text": "one"}}, ("one",)),
        ({}, {".json": ["a list"]}, ()),
        ({"ss_tag_frequency": json.dumps({"10_cat": {"ohwx cat": 10, "sofa": 3}})}, {}, ("ohwx cat",)),
        ({"ss_tag_frequency": "no JSON"}, {}, ()),
        ({"ss_tag_frequency": "[1]"}, {}, ()),
        ({}, {}, ()),
    ],
)
def test_trigger_words_come_from_metadata_or_a_file_beside(
    metadata: dict[str, str], beside: dict[str, object], expected: tuple[str, ...], tmp_path: Path
) -> None:
    write(tmp_path / "a v1.5.safetensors", pair(A), metadata)
    for ending, content in beside.items():
        (tmp_path / f"a v1.5{ending}").write_text(json.dumps(content))
    assert find_lora(tmp_path, "a v1.5").trigger_words == expected


@pytest.mark.parametrize(
    ("name", "metadata", "expected"),
    [
        ("a", {"modelspec.architecture": "wan2.2-i2v-14b/lora"}, "I2V-A14B"),
        ("Wan2.2_TI2V_style", {}, "TI2V-5B"),
        ("Wan2.2-Lightning_T2V-A14B", {}, "T2V-A14B"),
        ("st2vs", {}, None),
    ],
)
def test_model_type_comes_from_metadata_or_the_name(
    name: str, metadata: dict[str, str], expected: str | None, tmp_path: Path
) -> None:
    write(tmp_path / f"{name}.safetensors", pair(A), metadata)
    assert find_lora(tmp_path, name).model_type == expected


@pytest.mark.parametrize(
    ("name", "rest", "expert"),
    [
        ("Wan2.2-Lightning_T2V-A14B-4steps_HIGH_fp16", "Wan2.2-Lightning_T2V-A14B-4steps_fp16", "high_noise"),
        ("style.low_noise", "style", "low_noise"),
        ("style-LowNoise-v1.2", "style-v1.2", "low_noise"),
        ("style_high", "style", "high_noise"),
        ("high-contrast", "high-contrast", None),
        ("HIGH_and_LOW", "HIGH_and_LOW", None),
        ("highlow", "highlow", None),
        ("low", "low", None),
    ],
)
def test_expert_is_told_by_the_name(name: str, rest: str, expert: str | None) -> None:
    found, told = guess_expert((name, None))
    assert (found, told and told.label) == (rest, expert)
