"""Model folders at a configured path."""

from dataclasses import replace
from pathlib import Path

import pytest

from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ModelMissing
from wan22_bridge.fetching.downloads import ensure_model, find_model

_REAL = load_catalogue()["wan2.2-ti2v-5b"]


def test_a_configured_folder_in_diffusers_format_is_used_in_place(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").touch()
    assert ensure_model(replace(_REAL, path=tmp_path), tmp_path / "models") == tmp_path
    assert find_model(replace(_REAL, path=tmp_path), tmp_path / "models") == tmp_path


def test_a_folder_without_an_index_is_rejected_without_revealing_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"no model_index\.json") as caught:
        ensure_model(replace(_REAL, path=tmp_path), tmp_path / "models")
    assert str(tmp_path) not in str(caught.value.to_dict())
