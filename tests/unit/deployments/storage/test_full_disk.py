"""Inputs on a disk that is full, and the free space that new data must leave."""

from pathlib import Path

import pytest

from deployments.storage.disk import DiskSpace
from deployments.storage.folder import FolderStorage
from tests.full_disk import fill, small_disk
from wan22_bridge.errors import DiskFull


def test_an_input_that_finds_no_space_leaves_nothing_and_costs_no_other(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 256) as disk:
        storage = FolderStorage(disk)
        first = storage.put_input(b"first")
        filler = fill(disk)
        with pytest.raises(DiskFull) as caught:
            storage.put_input(bytes(50_000))
        assert str(disk) not in caught.value.message
        assert [found.key for found in storage.list_inputs()] == [first]
        assert storage.put_input(b"first") == first
        filler.unlink()
        assert len(storage.path(storage.put_input(bytes(50_000))).read_bytes()) == 50_000


def test_new_data_must_leave_the_limit_free(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1000) as disk:
        space = DiskSpace(disk, 500_000)
        space.require(500_000)
        with pytest.raises(DiskFull, match=r"0\.00 GB are free, and 0\.60 GB are needed"):
            space.require(10**8 + 10**9 // 2)
        assert not space.is_short
        fill(disk)
        assert space.is_short


def test_a_folder_that_cannot_be_measured_has_space(tmp_path: Path) -> None:
    space = DiskSpace(tmp_path / "missing", 10**30)
    space.require()
    assert not space.is_short
    with pytest.raises(DiskFull):
        DiskSpace(tmp_path, 10**30).require()
