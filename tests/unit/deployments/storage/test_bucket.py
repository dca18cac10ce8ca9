"""Storage in a bucket, which machines without a common folder share."""

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from deployments.storage.bucket import UNUSED_COPY_RETENTION_SECONDS, BucketStorage
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from tests.bucket import serving_bucket
from wan22_bridge.errors import ConfigurationError, NotFound, StorageFailed

JOB = "video_1"
AWAY_SECONDS = 4
"""Longer than obstore's default of ten retries takes."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_bucket() as found:
        yield found


@pytest.fixture
def machines(url: str, tmp_path: Path) -> tuple[BucketStorage, BucketStorage]:
    """The storage of two machines that share a bucket. Each test has a prefix of its own."""
    prefix = f"{url}/{tmp_path.name}"
    return BucketStorage(tmp_path / "one", prefix), BucketStorage(tmp_path / "other", prefix)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _make_output(storage: Storage, token: int, content: bytes) -> str:
    _write(storage.work.output_folder(JOB, token) / "video.mp4", content)
    storage.publish_output(JOB, token)
    return f"{output_key(JOB, token)}/video.mp4"


def test_files_of_one_machine_are_available_on_another(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    key = one.put_input(b"an image")
    video = _make_output(one, 1, b"a video" * 3_000_000)
    other.fetch_job(JOB, 2, [key])
    assert (other.inputs_root / key).read_bytes() == b"an image"
    assert other.path(video).read_bytes() == b"a video" * 3_000_000
    assert other.path(video).stat().st_mtime == one.path(video).stat().st_mtime, "equal times make equal ETags"


def test_a_job_resumes_from_the_newest_snapshot_of_any_machine(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    for storage, content in ((one, b"step 3"), (other, b"step 7")):
        _write(storage.work.snapshot_path(JOB), content)
        storage.publish_snapshot(JOB)
    one.fetch_job(JOB, 3, [])
    assert one.work.snapshot_path(JOB).read_bytes() == b"step 7"
    later = one.work.output_folder(JOB, 2)
    later.mkdir()
    one.remove_work_files(JOB, 1)
    assert not one.work.snapshot_path(JOB).exists()
    assert later.exists(), "another claim may be running here"
    one.remove_outputs(JOB)
    other.fetch_job(JOB, 4, [])
    assert not other.work.snapshot_path(JOB).exists(), "the job has ended, so a new claim starts over"


def test_a_preview_is_visible_on_other_machines_until_the_job_ends(
    machines: tuple[BucketStorage, BucketStorage],
) -> None:
    one, other = machines
    assert other.read_preview(JOB) is None
    for content in (b"blurred", b"clearer"):
        _write(one.work.preview_path(JOB), content)
        one.publish_preview(JOB)
        assert other.read_preview(JOB) == content
    video = _make_output(one, 2, b"")
    other.remove_outputs(JOB, keep=output_key(JOB, 2))
    assert one.read_preview(JOB) is None
    assert one.path(video).exists()


def test_each_claim_is_removed_on_its_own(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    videos = [_make_output(one, token, b"video") for token in (1, 2, 12)]
    one.remove_claim(JOB, 1)
    for video, is_there in zip(videos, (False, True, True), strict=True):
        assert _is_there(other, video) is is_there
    assert [outputs.job_id for outputs in other.list_outputs()] == [JOB]
    assert other.output_bytes(JOB) > other.output_bytes(JOB, keep=videos[1].rpartition("/")[0]) > 0
    other.remove_outputs(JOB)
    assert list(one.list_outputs()) == []


def _is_there(storage: Storage, key: str) -> bool:
    try:
        storage.path(key)
    except NotFound:
        return False
    return True


def test_an_input_is_removed_unless_it_was_stored_again(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, other = machines
    keys = [one.put_input(b"once"), one.put_input(b"again")]
    found = {item.key: item for item in other.list_inputs()}
    assert [found[key].size_bytes for key in keys] == [4, 5]
    before = replace(found[keys[1]], stored_at=found[keys[1]].stored_at - 1)
    assert other.remove_input(found[keys[0]])
    assert not other.remove_input(found[keys[0]])
    assert not other.remove_input(before)
    assert [_is_there(other, key) for key in keys] == [False, True]


def test_unused_local_copies_are_removed(machines: tuple[BucketStorage, BucketStorage]) -> None:
    one, _ = machines
    keys = [one.put_input(content) for content in (b"old", b"young", b"new")]
    old, young = (one.path(key) for key in keys[:2])
    long_ago = old.stat().st_mtime - UNUSED_COPY_RETENTION_SECONDS - 60
    os.utime(old, (long_ago, old.stat().st_mtime))
    one.path(keys[2])
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("key", ["../secret", "inputs/../../secret", "/etc/passwd"])
def test_a_key_never_leads_out_of_the_storage(key: str, machines: tuple[BucketStorage, BucketStorage]) -> None:
    (machines[0].work.root.parent / "secret").touch()
    with pytest.raises(NotFound):
        machines[0].path(key)


def test_an_inaccessible_bucket_is_reported(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    BucketStorage(tmp_path, url).check()
    with pytest.raises(StorageFailed, match="bucket does not exist"):
        BucketStorage(tmp_path, "s3://no-such-bucket").check()
    with pytest.raises(ConfigurationError, match="storage_url"):
        BucketStorage(tmp_path, "nonsense")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        away = BucketStorage(tmp_path, url, patience_seconds=1)
        with pytest.raises(StorageFailed, match="Cannot access the bucket"):
            away.check()
        away.remove_outputs(JOB)  # only logs the failure


def test_requests_are_repeated_while_a_bucket_is_unreachable(tmp_path: Path) -> None:
    with serving_bucket() as url:
        storage = BucketStorage(tmp_path, url)
        endpoint = os.environ["AWS_ENDPOINT_URL"]
    with ThreadPoolExecutor() as thread:
        put = thread.submit(storage.put_input, b"an image")
        assert wait([put], timeout=AWAY_SECONDS).not_done, "the storage gives up too early"
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=int(endpoint.rpartition(":")[2]), verbose=False)
        server.start()
        try:
            key = put.result()
            assert storage.path(key).read_bytes() == b"an image"
        finally:
            server.stop()
