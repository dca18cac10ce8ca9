"""Storage in a bucket: machines that share no folder have the same files."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from deployments.storage.bucket import UNUSED_COPIES_KEPT_SECONDS, BucketStorage
from deployments.storage.folder import Storage
from deployments.storage.opening import open_storage
from tests.bucket import serving_bucket
from wan22_bridge.errors import ConfigurationError, NotFound, StorageFailed

JOB = "video_1"
AWAY_SECONDS = 4
"""Longer than ten tries take."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_bucket() as found:
        yield found


@pytest.fixture
def machines(url: str, tmp_path: Path) -> tuple[BucketStorage, BucketStorage]:
    """The storage as two machines have it, each in a bucket of its own."""
    prefix = f"{url}/{tmp_path.name}"
    return BucketStorage(tmp_path / "one", prefix), BucketStorage(tmp_path / "other", prefix)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _make_output(storage: Storage, token: int, content: bytes) -> str:
    _write(storage.output_folder(JOB, token) / "video.mp4", content)
    storage.keep_output(JOB, token)
    return f"{storage.output_key(JOB, token)}/video.mp4"


def test_what_one_machine_keeps_another_has(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    key = one.put_input(b"an image")
    video = _make_output(one, 1, b"a video" * 3_000_000)
    other.bring(JOB, [key])
    assert (other.inputs_root / key).read_bytes() == b"an image"
    assert other.path(video).read_bytes() == b"a video" * 3_000_000
    assert other.path(video).stat().st_mtime == one.path(video).stat().st_mtime, "of one time, and so of one ETag"


def test_a_job_goes_on_from_the_newest_snapshot_of_any_machine(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    for storage, content in ((one, b"step 3"), (other, b"step 7")):
        _write(storage.snapshot_path(JOB), content)
        storage.keep_snapshot(JOB)
    one.bring(JOB, [])
    assert one.snapshot_path(JOB).read_bytes() == b"step 7"
    later = one.output_folder(JOB, 2)
    later.mkdir()
    one.leave(JOB, 1)
    assert not one.snapshot_path(JOB).exists()
    assert later.exists(), "another claim may be at work"
    one.remove_outputs(JOB)
    other.bring(JOB, [])
    assert not other.snapshot_path(JOB).exists(), "the job was done, and begins anew"


def test_a_preview_is_seen_elsewhere_until_the_job_ends(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    assert other.read_preview(JOB) is None
    for content in (b"blurred", b"clearer"):
        _write(one.preview_path(JOB), content)
        one.show_preview(JOB)
        assert other.read_preview(JOB) == content
    video = _make_output(one, 2, b"")
    other.remove_outputs(JOB, keep=one.output_key(JOB, 2))
    assert one.read_preview(JOB) is None
    assert one.path(video).exists()


def test_claims_are_removed_one_by_one(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    videos = [_make_output(one, token, b"") for token in (1, 2, 12)]
    one.remove_claim(JOB, 1)
    for video, is_there in zip(videos, (False, True, True), strict=True):
        assert _is_there(other, video) is is_there
    assert other.output_jobs() == [JOB]
    other.remove_outputs(JOB)
    assert one.output_jobs() == []


def _is_there(storage: Storage, key: str) -> bool:
    try:
        storage.path(key)
    except NotFound:
        return False
    return True


def test_inputs_that_nobody_needs_go(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    needed, unused = one.put_input(b"needed"), one.put_input(b"unused")
    assert other.remove_old_inputs(keep=[needed], older_than_seconds=60) == 0
    assert other.remove_old_inputs(keep=[needed], older_than_seconds=-60) == 1
    assert (_is_there(other, needed), _is_there(other, unused)) == (True, False)


def test_copies_that_nobody_asks_for_make_room(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, _ = machines
    keys = [one.put_input(content) for content in (b"old", b"young", b"new")]
    old, young = (one.path(key) for key in keys[:2])
    long_ago = old.stat().st_mtime - UNUSED_COPIES_KEPT_SECONDS - 60
    os.utime(old, (long_ago, old.stat().st_mtime))
    one.path(keys[2])
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("key", ["../secret", "inputs/../../secret", "/etc/passwd"])
def test_a_key_never_leads_out_of_the_storage(key: str, machines: tuple[BucketStorage, BucketStorage]) -> None:
    (machines[0].root.parent / "secret").touch()
    with pytest.raises(NotFound):
        machines[0].path(key)


def test_a_bucket_that_is_not_there_is_told(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BucketStorage(tmp_path, url).check()
    with pytest.raises(StorageFailed, match="bucket does not exist"):
        BucketStorage(tmp_path, "s3://no-such-bucket").check()
    with pytest.raises(ConfigurationError, match="storage_url"):
        BucketStorage(tmp_path, "nonsense")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        away = BucketStorage(tmp_path, url, patience_seconds=1)
        with pytest.raises(StorageFailed, match="could not be"):
            away.check()
        away.remove_outputs(JOB)  # tidying finds what is left


def test_a_bucket_that_is_away_for_a_while_is_waited_for(tmp_path: Path) -> None:
    with serving_bucket() as url:
        storage = BucketStorage(tmp_path, url)
        endpoint = os.environ["AWS_ENDPOINT_URL"]
    with ThreadPoolExecutor() as thread:
        put = thread.submit(storage.put_input, b"an image")
        assert wait([put], timeout=AWAY_SECONDS).not_done, "it gives up"
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(endpoint.rpartition(":")[2]), verbose=False)
        server.start()
        try:
            key = put.result()
            assert storage.path(key).read_bytes() == b"an image"
        finally:
            server.stop()


def test_without_a_url_the_folder_is_the_storage(tmp_path: Path) -> None:
    assert type(open_storage(tmp_path, None)) is Storage
