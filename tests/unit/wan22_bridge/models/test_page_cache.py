"""Tests of prefetching weights into the page cache."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.page_cache import folder_on_disk, is_cached, is_evicted
from wan22_bridge.machine import Ram
from wan22_bridge.models.page_cache import prefetch_weights


@pytest.fixture
def weights() -> Iterator[Path]:
    with folder_on_disk() as folder:
        path = folder / "transformer" / "model.safetensors"
        path.parent.mkdir()
        path.write_bytes(bytes(64 << 20))
        (folder / "other.txt").write_text("not weights")
        assert is_evicted(path)
        yield path


def test_prefetched_weights_are_in_the_page_cache(weights: Path) -> None:
    assert prefetch_weights(weights.parent.parent, lambda: True)
    assert is_cached(weights)


def test_prefetching_stops_when_the_weights_are_not_wanted_any_more(weights: Path) -> None:
    answers = iter([True, False])
    assert not prefetch_weights(weights.parent.parent, lambda: next(answers))
    assert not is_cached(weights)


def test_weights_that_do_not_fit_into_memory_are_not_read(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ram = Ram(total_bytes=64 << 20, available_bytes=64 << 20)
    monkeypatch.setattr("wan22_bridge.models.page_cache.read_ram", lambda: ram)
    assert not prefetch_weights(weights.parent.parent, lambda: True)
    assert not is_cached(weights)
