"""Reading weights ahead."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.page_cache import folder_on_disk, is_cached, is_evicted
from wan22_bridge.models.page_cache import read_ahead


@pytest.fixture
def weights() -> Iterator[Path]:
    with folder_on_disk() as folder:
        path = folder / "transformer" / "model.safetensors"
        path.parent.mkdir()
        path.write_bytes(bytes(64 << 20))
        (folder / "other.txt").write_text("not weights")
        assert is_evicted(path)
        yield path


def test_weights_are_in_the_page_cache_once_they_were_read_ahead(weights: Path) -> None:
    assert read_ahead(weights.parent.parent, lambda: True)
    assert is_cached(weights)


def test_what_is_not_wanted_any_more_is_left(weights: Path) -> None:
    answers = iter([True, False])
    assert not read_ahead(weights.parent.parent, lambda: next(answers))
    assert not is_cached(weights)


def test_nothing_is_read_that_would_not_fit(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(available=64 << 20, total=64 << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert not read_ahead(weights.parent.parent, lambda: True)
    assert not is_cached(weights)
