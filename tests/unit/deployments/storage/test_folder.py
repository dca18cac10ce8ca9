"""Storage in a folder, and the choice of the storage."""

from pathlib import Path

import pytest

from deployments.storage.bucket import BucketStorage
from deployments.storage.folder import FolderStorage
from deployments.storage.opening import open_storage
from wan22_bridge.errors import StorageFailed


def test_the_url_chooses_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert isinstance(open_storage(tmp_path, None), FolderStorage)
    assert isinstance(open_storage(tmp_path, "s3://bucket/videos"), BucketStorage)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    FolderStorage(tmp_path / "data").check()
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match=r"Cannot write to .*file/data: Not a directory"):
        FolderStorage(tmp_path / "file" / "data").check()
