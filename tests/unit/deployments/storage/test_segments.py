"""Complete segments of long videos: each claim takes over those of earlier claims, and writes to its own folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.storage.bucket import BucketStorage
from deployments.storage.folder import FolderStorage
from deployments.storage.inheriting import choose_segments
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from tests.bucket import serving_bucket
from wan22_bridge.media.output import OUTPUT_FILES

JOB = "video_1"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_bucket() as found:
        yield found


@pytest.fixture(params=["folder", "bucket"])
def machines(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Storage, Storage]:
    """The storage of two machines: a folder that they share, or a bucket."""
    if request.param == "folder":
        return FolderStorage(tmp_path / "shared"), FolderStorage(tmp_path / "shared")
    prefix = f"{request.getfixturevalue('url')}/{tmp_path.name}"
    return BucketStorage(tmp_path / "one", prefix), BucketStorage(tmp_path / "other", prefix)


def _write(storage: Storage, token: int, index: int, *, names: tuple[str, ...] = OUTPUT_FILES) -> None:
    folder = storage.work.segments_folder(JOB, token) / str(index)
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"segment {index} of claim {token}")
    storage.publish_segment(JOB, token, index)


def _read(storage: Storage, token: int) -> list[str]:
    """Returns the contents of a claim's segments, each of whose files must be the same claim's."""
    contents = []
    for folder in sorted(storage.work.segments_folder(JOB, token).glob("*")):
        [content] = {(folder / name).read_text() for name in OUTPUT_FILES}
        contents.append(content)
    return contents


def test_a_claim_on_another_machine_finds_the_finished_segments(machines: tuple[Storage, Storage]) -> None:
    one, other = machines
    for index in (0, 1):
        _write(one, 1, index)
    other.fetch_job(JOB, 2, [])
    assert _read(other, 2) == ["segment 0 of claim 1", "segment 1 of claim 1"]


def test_two_claims_at_once_do_not_change_each_others_segments(machines: tuple[Storage, Storage]) -> None:
    old, new = machines
    _write(old, 1, 0)
    new.fetch_job(JOB, 2, [])
    _write(new, 2, 1)
    _write(old, 1, 1)
    old.remove_work_files(JOB, 1)
    old.remove_claim(JOB, 1)
    assert _read(new, 2) == ["segment 0 of claim 1", "segment 1 of claim 2"]
    old.fetch_job(JOB, 3, [])
    assert _read(old, 3) == ["segment 0 of claim 1", "segment 1 of claim 2"]


def test_two_claims_on_one_machine_have_folders_of_their_own(machines: tuple[Storage, Storage]) -> None:
    one, _ = machines
    _write(one, 1, 0)
    one.fetch_job(JOB, 2, [])
    one.remove_work_files(JOB, 1)
    assert _read(one, 2) == ["segment 0 of claim 1"]


def test_a_segment_that_was_published_in_part_is_generated_again(url: str, tmp_path: Path) -> None:
    one, other = (BucketStorage(tmp_path / name, f"{url}/{tmp_path.name}") for name in ("one", "other"))
    _write(one, 1, 0)
    _write(one, 1, 1, names=OUTPUT_FILES[:2])
    other.fetch_job(JOB, 2, [])
    assert _read(other, 2) == ["segment 0 of claim 1"]


def test_segments_are_removed_at_the_end_of_the_job(machines: tuple[Storage, Storage]) -> None:
    one, other = machines
    _write(one, 1, 0)
    other.remove_outputs(JOB, keep=output_key(JOB, 2))
    other.fetch_job(JOB, 2, [])
    assert _read(other, 2) == []


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ([], {}),
        ([(1, 1)], {}),
        ([(1, 0), (2, 0), (2, 1)], {0: 2, 1: 2}),
        ([(1, 0), (1, 1), (2, 1)], {0: 1, 1: 2}),
        ([(1, 0), (1, 1), (2, 0)], {0: 2}),
        ([(3, 0), (4, 0)], {}),
    ],
)
def test_no_segment_is_taken_from_an_older_claim_than_the_one_before(
    found: list[tuple[int, int]], chosen: dict[int, int]
) -> None:
    assert choose_segments(found, before=3) == chosen
