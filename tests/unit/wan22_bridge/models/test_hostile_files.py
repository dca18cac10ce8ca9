"""Attacks with LoRAs and .gguf files. Each test is named for what it tries, and bounds the memory that it takes."""

import json
import shutil
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.hostile import MB, measure
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.models.gguf_header import MAX_TENSORS, UnreadableGguf, check_gguf
from wan22_bridge.models.lora_files import find_lora
from wan22_bridge.models.safetensors_header import MAX_HEADER_BYTES, UnreadableHeader, read_header

_SETUP = "from wan22_bridge.models.lora_files import find_lora"
_FIND = "find_lora(path.parent, path.stem)"


def _file(header: bytes, *, claimed: int | None = None, rest: int = 0) -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + bytes(rest)


def _filled(text: str, before: str = '{"a": ', after: str = "}") -> bytes:
    """Returns a header of the maximum size that repeats a text."""
    count = (MAX_HEADER_BYTES - len(before) - len(after)) // len(text)
    return _file((before + count * text + after).encode())


def _tensors(count: int) -> bytes:
    entry = {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}
    return _file(json.dumps({str(index): entry for index in range(count)}).encode())


BOMBS = {
    "a header of 2^60 bytes": lambda: _file(b"{}", claimed=2**60),
    "a header of the whole file": lambda: _file(b"{}", claimed=MAX_HEADER_BYTES + 1, rest=MAX_HEADER_BYTES),
    "200000 tensors": lambda: _tensors(200_000),
    "8 million lists": lambda: _filled("[],", '{"a": [', "0]}"),
    "5 million dictionaries": lambda: _filled("{},", '{"a": [', "0]}"),
    "16 million brackets inside brackets": lambda: _filled("["),
    "brackets behind a text that never ends": lambda: _filled("[],", '{"a": "\\"'),
    "lists in UTF-16, where a byte of a letter looks like a quotation mark": lambda: _file(
        ('{"\u2200": [' + 2_000_000 * "[]," + "0]}").encode("utf-16-le")
    ),
    "a number of 16 million digits": lambda: _filled("9"),
    "a name of 16 million letters": lambda: _file(
        json.dumps({"a" * (MAX_HEADER_BYTES - 100): {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}}).encode()
    ),
}


@pytest.mark.parametrize("attack", BOMBS)
def test_a_lora_whose_header_would_fill_the_memory_is_rejected(attack: str, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(BOMBS[attack]())
    found = measure(tmp_path / "a.safetensors", _SETUP, _FIND)
    assert found["code"] == "lora_unreadable"
    assert found["message"].startswith("The LoRA a is not a safetensors file: ")
    assert len(found["message"]) < 300
    assert found["growth"] < 80 * MB


def _one(**changes: object) -> bytes:
    entry = {"dtype": "F16", "shape": [2, 2], "data_offsets": [0, 8]} | changes
    return _file(json.dumps({"a": entry}).encode(), rest=8)


def _two(first: list[int], second: list[int]) -> bytes:
    entries = {
        name: {"dtype": "F16", "shape": [2], "data_offsets": offsets} for name, offsets in (("a", first), ("b", second))
    }
    return _file(json.dumps(entries).encode(), rest=8)


CONTRADICTIONS = {
    "negative shapes": lambda: _one(shape=[-2, -2]),
    "fractions in a shape": lambda: _one(shape=[2.0, 2.0]),
    "a text as shape": lambda: _one(dtype="F64", shape=""),
    "a shape of 100000 numbers": lambda: _one(shape=[1] * 90_000),
    "a shape of huge numbers": lambda: _one(shape=[2**64, 0]),
    "offsets outside of the file": lambda: _one(data_offsets=[2**62, 2**62 + 8]),
    "offsets backwards": lambda: _one(data_offsets=[8, 0]),
    "overlapping tensors": lambda: _two([0, 4], [2, 6]),
    "two tensors in the same place": lambda: _two([0, 4], [0, 4]),
}


@pytest.mark.parametrize("attack", CONTRADICTIONS)
def test_a_lora_that_contradicts_itself_is_rejected(attack: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(CONTRADICTIONS[attack]())
    with pytest.raises(UnreadableHeader):
        read_header(path)


def test_long_metadata_does_not_stay_in_memory(tmp_path: Path) -> None:
    metadata = {"long": "x" * (8 * MB), "ss_tag_frequency": 2_000_000 * "[],", "trigger_words": "neon"}
    (tmp_path / "a.safetensors").write_bytes(_file(json.dumps({"__metadata__": metadata}).encode()))
    assert dict(read_header(tmp_path / "a.safetensors").metadata) == {"trigger_words": "neon"}
    assert find_lora(tmp_path, "a").trigger_words == ("neon",)


@pytest.mark.parametrize("place", ["metadata", "sidecar"])
def test_trigger_words_that_would_fill_the_memory_are_left_out(place: str, tmp_path: Path) -> None:
    bomb = '{"activation text": [' + 300_000 * "[]," + "0]}"
    metadata = {"ss_tag_frequency": bomb} if place == "metadata" else {}
    (tmp_path / "a.safetensors").write_bytes(_file(json.dumps({"__metadata__": metadata}).encode()))
    (tmp_path / "a.json").write_text(bomb if place == "sidecar" else "{}")
    found = measure(tmp_path / "a.safetensors", _SETUP, _FIND)
    assert found["code"] is None
    assert found["growth"] < 10 * MB


def _gguf(entries: bytes = b"", tensors: bytes = b"", *, counts: tuple[int, int], rest: int = 0) -> bytes:
    """Returns a .gguf file from its parts and the numbers of tensors and entries that it claims."""
    header = b"GGUF" + struct.pack("<IQQ", 3, *counts) + entries + tensors
    return header + bytes(-len(header) % 32 + rest)


def _text(text: bytes, claimed: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text


def _tensor(shape: list[int], start: int, kind: int = 0, name: bytes = b"a") -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, start)


def _list(kind: int, count: int, items: bytes = b"") -> bytes:
    return _text(b"list") + struct.pack("<IIQ", 9, kind, count) + items


GGUFS = {
    "2^60 tensors": (_gguf(counts=(2**60, 0)), "claims 1152921504606846976 tensors"),
    "2^60 entries": (_gguf(counts=(0, 2**60)), "claims 1152921504606846976 entries"),
    "more tensors than the file has": (_gguf(counts=(MAX_TENSORS, 0)), "cut off"),
    "a list of 2^60 numbers": (_gguf(_list(0, 2**60), counts=(0, 1)), "have 1152921504606846976 items"),
    "a list of 100 million bytes": (_gguf(_list(0, 100_000_000), counts=(0, 1), rest=MB), "have 100000000 items"),
    "a list that is longer than the file": (_gguf(_list(12, 400_000), counts=(0, 1)), "cut off"),
    "lists inside a list": (_gguf(_list(9, 1, struct.pack("<IQ", 0, 1)), counts=(0, 1)), "unknown type 9"),
    "a name of 2^60 bytes": (_gguf(_text(b"", 2**60), counts=(0, 1)), "a text in its header has 1152921504606846976"),
    "a value of an unknown type": (_gguf(_text(b"a") + struct.pack("<I", 99), counts=(0, 1)), "unknown type 99"),
    "an alignment of 0": (
        _gguf(_text(b"general.alignment") + struct.pack("<II", 4, 0), counts=(0, 1)),
        "aligns its tensors to 0 bytes",
    ),
    "a tensor of 2^60 numbers": (_gguf(tensors=_tensor([2**60], 0), counts=(1, 0), rest=64), "tensors need"),
    "a tensor of 2^480 numbers": (_gguf(tensors=_tensor([2**60] * 8, 0), counts=(1, 0), rest=64), "tensors need"),
    "a tensor of 4 billion dimensions": (
        _gguf(tensors=_text(b"a") + struct.pack("<I", 2**32 - 1), counts=(1, 0)),
        "has 4294967295 dimensions",
    ),
    "a tensor of an unknown type": (_gguf(tensors=_tensor([8], 0, 250), counts=(1, 0), rest=64), "unknown type 250"),
    "a tensor outside of the file": (_gguf(tensors=_tensor([8], 2**60), counts=(1, 0), rest=64), "tensors need"),
    "half a block": (_gguf(tensors=_tensor([16], 0, 8), counts=(1, 0), rest=64), "within a block"),
    "overlapping tensors": (
        _gguf(tensors=_tensor([16], 0) + _tensor([8], 32, name=b"b"), counts=(2, 0), rest=64),
        "tensors overlap",
    ),
    "a future version": (b"GGUF" + struct.pack("<IQQ", 9, 0, 0), "version is 9"),
    "a file of another format": (b"PK\x03\x04" + bytes(64), "does not begin with GGUF"),
    "nothing": (b"", "does not begin with GGUF"),
}


@pytest.mark.parametrize("attack", GGUFS)
def test_a_gguf_file_that_is_made_to_hurt_is_rejected(attack: str, tmp_path: Path) -> None:
    data, reason = GGUFS[attack]
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(UnreadableGguf, match=reason):
        check_gguf(tmp_path / "a.gguf")


@pytest.mark.parametrize("attack", ["2^60 tensors", "a list of 2^60 numbers", "a tensor of 2^60 numbers"])
def test_a_hostile_gguf_file_takes_no_memory(attack: str, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(GGUFS[attack][0])
    found = measure(tmp_path / "a.gguf", "from wan22_bridge.models.gguf_header import check_gguf", "check_gguf(path)")
    assert found["code"] == "UnreadableGguf"
    assert found["growth"] < 5 * MB


def test_a_gguf_file_of_the_gguf_library_is_accepted(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "wan")
    writer.add_custom_alignment(64)
    writer.add_array("words", ["a", "bc"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float64("ratio", 0.5)
    writer.add_tensor("a", np.zeros((3, 5), dtype=np.float32))
    quantized = gguf.quants.quantize(np.zeros((4, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_gguf(tmp_path / "a.gguf")
    data = (tmp_path / "a.gguf").read_bytes()
    (tmp_path / "a.gguf").write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableGguf):
        check_gguf(tmp_path / "a.gguf")


def test_the_description_of_a_model_names_its_hostile_gguf_file(models_dir: Path, tmp_path: Path) -> None:

    folder: Path = shutil.copytree(ensure_tiny_model(models_dir, "t2v"), tmp_path / "model")
    for name in ("transformer", "transformer_2"):
        (folder / name / "expert.gguf").write_bytes(GGUFS["2^60 tensors"][0])
    with pytest.raises(ModelCorrupted, match=r"The file transformer/expert\.gguf of tiny-t2v is unusable: it claims"):
        find_architecture(load_catalogue()["tiny-t2v"], folder)
