"""Jobs are taken in whole or not at all, and leave nothing when they go."""

import io
import os
import time
from pathlib import Path

import pytest
from PIL import Image

from deployments.jobs.job import IdempotencyConflict, JobNotFound, JobState
from deployments.jobs.service import UNUSED_INPUTS_KEPT_SECONDS, JobService
from deployments.jobs.store import JobStore
from deployments.storage import Storage
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import InvalidRequest, NotFound
from wan22_bridge.requests import GenerationRequest

_CATALOGUE = load_catalogue()


def _png(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "files")


@pytest.fixture
def service(store: JobStore, storage: Storage) -> JobService:
    return JobService(store, storage, [_CATALOGUE["tiny-t2v"], _CATALOGUE["tiny-i2v"]])


_REQUEST = GenerationRequest(prompt="a cat", model="i2v")


def _files(storage: Storage) -> list[str]:
    return sorted(str(path.relative_to(storage.root)) for path in storage.root.rglob("*") if path.is_file())


def test_a_job_keeps_its_images(service: JobService, storage: Storage) -> None:
    job = service.submit(_REQUEST, image=_png("red"), end_image=_png("blue"))
    assert job.params.image is not None
    assert storage.path(job.params.image).read_bytes() == _png("red")
    assert _files(storage) == sorted([job.params.image, job.params.end_image or ""])


def test_an_upload_can_be_used_by_its_id(service: JobService) -> None:
    upload = service.upload(_png("red"))
    job = service.submit(_REQUEST, image=upload.key.rpartition("/")[2])
    assert job.params.image == upload.key


@pytest.mark.parametrize("upload_id", ["nope", "../jobs.db", "../../etc/passwd", "", "/etc/passwd", "."])
def test_an_unknown_upload_is_refused(upload_id: str, service: JobService, storage: Storage) -> None:
    storage.put_input(b"another")
    (storage.root / "jobs.db").write_bytes(_png("red"))
    with pytest.raises(InvalidRequest) as caught:
        service.submit(_REQUEST, image=upload_id)
    assert caught.value.code == "unknown_upload"


def test_a_refused_request_leaves_nothing(service: JobService, storage: Storage, store: JobStore) -> None:
    for image, end_image in ((_png("red"), b"text"), (b"text", None), (None, _png("red"))):
        with pytest.raises(InvalidRequest):
            service.submit(_REQUEST, image=image, end_image=end_image)
    assert _files(storage) == []
    assert sum(store.count().values()) == 0


def test_an_idempotency_key_covers_the_whole_request_but_not_the_drawn_seed(service: JobService) -> None:
    first = service.submit(_REQUEST, image=_png("red"), idempotency_key="k")
    assert service.submit(_REQUEST, image=_png("red"), idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        service.submit(_REQUEST, image=_png("blue"), idempotency_key="k")


def test_a_deleted_job_takes_its_files_along(service: JobService, storage: Storage, store: JobStore) -> None:
    job = service.submit(_REQUEST, image=_png("red"))
    storage.output_folder(job.id, 1).mkdir(parents=True)
    service.delete(job.id)
    with pytest.raises(JobNotFound):
        store.get(job.id)
    assert storage.output_jobs() == []


def test_tidying_keeps_what_is_referred_to(service: JobService, storage: Storage, store: JobStore) -> None:
    job = service.submit(_REQUEST, image=_png("red"))
    unused = service.upload(_png("blue"))
    fresh = service.upload(_png("green"))
    long_ago = time.time() - UNUSED_INPUTS_KEPT_SECONDS - 1
    assert job.params.image is not None
    for key in (job.params.image, unused.key):
        os.utime(storage.path(key), (long_ago, long_ago))
    store.claim(job.id, lease_seconds=10)
    store.complete(job.id, 1, output={"folder": storage.output_key(job.id, 1)}, result={})
    for token in (1, 2):
        storage.output_folder(job.id, token).mkdir(parents=True)
    storage.output_folder("video_gone", 1).mkdir(parents=True)

    service.tidy()

    assert _files(storage) == sorted([job.params.image, fresh.key])
    assert storage.output_jobs() == [job.id]
    assert not storage.output_folder(job.id, 2).exists()
    assert storage.output_folder(job.id, 1).exists()
    assert store.get(job.id).state is JobState.COMPLETED


def test_a_key_never_leads_out_of_the_storage(storage: Storage) -> None:
    storage.root.mkdir()
    (storage.root.parent / "secret").touch()
    for key in ("../secret", "/etc/passwd", "inputs/../../secret"):
        with pytest.raises(NotFound):
            storage.path(key)
