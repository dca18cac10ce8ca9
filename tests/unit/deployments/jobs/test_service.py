"""Jobs are stored completely or not at all, and deleted jobs leave no files."""

import io
import os
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deployments.jobs.cleaning import Cleaner
from deployments.jobs.events import describe
from deployments.jobs.generation_mode import GenerationMode
from deployments.jobs.inputs import InputUrl
from deployments.jobs.job import IdempotencyConflict, Job, JobNotFound, JobNotRetryable, JobState
from deployments.jobs.limits import UNLIMITED, Account, LimitExceeded
from deployments.jobs.outbox import JobEnds
from deployments.jobs.retention import DAY_SECONDS, Retention
from deployments.jobs.service import JobService
from deployments.jobs.store import JobStore
from deployments.network.remote_files import RemoteFiles
from deployments.storage.folder import FolderStorage
from deployments.storage.keys import output_key
from deployments.storage.protocol import Storage
from tests.jobs import make_job
from tests.unit.conftest import Clock
from tests.videos import mp4, ramp
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import Conflict, DiskFull, InvalidRequest, NotFound, Wan22Error
from wan22_bridge.requests import GenerationRequest
from wan22_bridge.types import LoraUse

_CATALOGUE = load_catalogue()


def _png(color: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return FolderStorage(tmp_path / "files")


@pytest.fixture
def service(store: JobStore, storage: Storage) -> JobService:
    return JobService(store, storage, [_CATALOGUE["tiny-t2v"], _CATALOGUE["tiny-i2v"]])


@pytest.fixture
def cleaner(store: JobStore, storage: Storage) -> Cleaner:
    return Cleaner(store, storage, Retention(), orphans=True)


_REQUEST = GenerationRequest(prompt="a cat", model="i2v")
_REGENERATE = GenerationRequest(prompt="a cat", model="t2v")


def _files(storage: Storage) -> list[str]:
    return sorted(str(path.relative_to(storage.work.root)) for path in storage.work.root.rglob("*") if path.is_file())


def test_a_jobs_images_are_stored(service: JobService, storage: Storage) -> None:
    [job] = service.submit(_REQUEST, image=_png("red"), end_image=_png("blue"))
    assert job.params.image is not None
    assert storage.path(job.params.image).read_bytes() == _png("red")
    assert _files(storage) == sorted([job.params.image, job.params.end_image or ""])


def test_an_upload_is_used_by_its_id(service: JobService) -> None:
    upload = service.upload(_png("red"))
    [job] = service.submit(_REQUEST, image=upload.key.rpartition("/")[2])
    assert job.params.image == upload.key


@pytest.mark.parametrize("upload_id", ["nope", "../jobs.db", "../../etc/passwd", "", "/etc/passwd", "."])
def test_an_unknown_upload_is_rejected(upload_id: str, service: JobService, storage: Storage) -> None:
    storage.put_input(b"another")
    (storage.work.root / "jobs.db").write_bytes(_png("red"))
    with pytest.raises(InvalidRequest) as caught:
        service.submit(_REQUEST, image=upload_id)
    assert caught.value.code == "unknown_upload"


class _Server(RemoteFiles):
    """Files of another server by their URLs, without a network."""

    def __init__(self, **files: bytes) -> None:
        super().__init__(max_bytes=10**6)
        self.files = {f"https://files.example/{name}": content for name, content in files.items()}
        self.asked: list[str] = []

    def read(self, url: str) -> bytes:
        self.asked.append(url)
        return self.files[url]


def _limited(**limits: float) -> Account:
    return Account(client="alice", limits=UNLIMITED.model_copy(update=limits))


@pytest.mark.parametrize("limit", ["uploads_per_day", "pending_jobs", "upload_mb_per_day"])
def test_downloaded_inputs_are_charged_and_not_downloaded_beyond_a_limit(
    limit: str, store: JobStore, storage: Storage
) -> None:
    server = _Server(red=_png("red"), blue=_png("blue"))
    red, blue = (InputUrl(url) for url in server.files)
    service = JobService(store, storage, [_CATALOGUE["tiny-i2v"]], remote_files=server)
    account = _limited(**{limit: len(_png("red")) / 1e6 if limit == "upload_mb_per_day" else 1})

    [job] = service.submit(_REQUEST, image=red, owner="alice", account=account)
    for call in (service.submit, service.resolve):
        with pytest.raises(LimitExceeded):
            call(_REQUEST, image=blue, account=account)

    assert server.asked == [red.url]
    assert _files(storage) == [job.params.image]
    assert list(store.input_owners.all()) == [job.params.image]
    [used] = store.usage.read(client="alice")
    assert (used.uploads, used.upload_bytes) == (1, len(_png("red")))


def test_nothing_is_downloaded_to_a_nearly_full_disk(store: JobStore, storage: Storage) -> None:
    def require_space(size_bytes: int) -> None:
        raise DiskFull("full")

    server = _Server(red=_png("red"))
    service = JobService(store, storage, [_CATALOGUE["tiny-i2v"]], remote_files=server, require_space=require_space)
    for call in (service.submit, service.resolve):
        with pytest.raises(DiskFull):
            call(_REQUEST, image=InputUrl("https://files.example/red"))
    assert server.asked == []


def test_a_rejected_request_stores_nothing(service: JobService, storage: Storage, store: JobStore) -> None:
    for image, end_image in ((_png("red"), b"text"), (b"text", None), (None, _png("red"))):
        with pytest.raises(InvalidRequest):
            service.submit(_REQUEST, image=image, end_image=end_image)
    assert _files(storage) == []
    assert sum(store.reader.count().values()) == 0


def test_an_idempotency_key_covers_the_whole_request_but_not_the_drawn_seed(service: JobService) -> None:
    first = service.submit(_REQUEST, image=_png("red"), idempotency_key="k")
    assert service.submit(_REQUEST, image=_png("red"), idempotency_key="k") == first
    with pytest.raises(IdempotencyConflict):
        service.submit(_REQUEST, image=_png("blue"), idempotency_key="k")


@dataclass(frozen=True, kw_only=True, slots=True)
class _LaterRequest(GenerationRequest):
    """A request as a later version would have it that adds a field with a default."""

    sharpness: float = 0.0


def test_a_retry_after_an_upgrade_that_adds_a_field_gets_the_same_job(service: JobService) -> None:
    known = {item.name: getattr(_REQUEST, item.name) for item in fields(_REQUEST)}
    body = {"prompt": "a cat"}
    first = service.submit(_REQUEST, image=_png("red"), idempotency_key="k", body=body)
    assert service.submit(_LaterRequest(**known), image=_png("red"), idempotency_key="k", body=body) == first
    for request, other in ((_LaterRequest(**known, sharpness=0.5), body), (_REQUEST, {"prompt": "a cat", "seed": 1})):
        with pytest.raises(IdempotencyConflict):
            service.submit(request, image=_png("red"), idempotency_key="k", body=other)


def test_the_jobs_of_a_batch_differ_in_their_seeds_only_and_share_their_inputs(
    service: JobService, cleaner: Cleaner, storage: Storage, store: JobStore
) -> None:
    batch = service.submit(_REQUEST, seeds=[5, None, 7], image=_png("red"), metadata={"who": "me"})
    assert [batch[0].params.seed, batch[2].params.seed] == [5, 7]
    for job in batch:
        assert replace(job.params, seed=5) == batch[0].params
        assert (job.metadata, job.batch_id) == ({"who": "me"}, batch[0].batch_id)
    assert _files(storage) == [batch[0].params.image]

    service.delete(batch[0].id)
    long_ago = time.time() - DAY_SECONDS - 1
    assert batch[1].params.image is not None
    os.utime(storage.path(batch[1].params.image), (long_ago, long_ago))
    cleaner.clean()
    assert storage.path(batch[1].params.image).read_bytes() == _png("red")

    for job in batch[1:]:
        service.delete(job.id)
    cleaner.clean()
    assert _files(storage) == []
    assert sum(store.reader.count().values()) == 0


def test_a_rejected_batch_stores_nothing(service: JobService, storage: Storage, store: JobStore) -> None:
    with_lora = replace(_REQUEST, loras=(LoraUse(name="none-such"),))
    for request, image in ((_REQUEST, b"text"), (with_lora, _png("red"))):
        with pytest.raises(Wan22Error):
            service.submit(request, seeds=[1, 2], image=image)
    assert _files(storage) == []
    assert sum(store.reader.count().values()) == 0


def test_an_idempotency_key_covers_the_seeds_of_a_batch(service: JobService) -> None:
    def submit(*seeds: int | None) -> list[Job]:
        return service.submit(_REQUEST, seeds=seeds, image=_png("red"), idempotency_key="k")

    first = submit(None, None)
    assert submit(None, None) == first
    for seeds in ((None,), (None, None, None), (1, 2)):
        with pytest.raises(IdempotencyConflict):
            submit(*seeds)


def test_one_seed_is_the_same_request_as_the_requests_own(service: JobService) -> None:
    [first] = service.submit(replace(_REQUEST, seed=3), image=_png("red"), idempotency_key="k")
    assert service.submit(_REQUEST, seeds=[3], image=_png("red"), idempotency_key="k") == [first]
    assert first.batch_id is None


def test_all_jobs_of_a_batch_get_the_same_generation_mode(service: JobService, store: JobStore) -> None:
    GenerationMode.change(store.settings, lambda _: GenerationMode(mock=True))
    batch = service.submit(_REQUEST, seeds=[1, 2], image=_png("red"))
    assert [job.params.is_mock for job in batch] == [True, True]


def test_deleting_a_job_deletes_its_files(service: JobService, storage: Storage, store: JobStore) -> None:
    [job] = service.submit(_REQUEST, image=_png("red"))
    storage.work.output_folder(job.id, 1).mkdir(parents=True)
    service.delete(job.id)
    with pytest.raises(JobNotFound):
        store.reader.get(job.id)
    assert list(storage.list_outputs()) == []


def test_cleaning_removes_only_unused_files(
    service: JobService, cleaner: Cleaner, storage: Storage, store: JobStore
) -> None:
    [job] = service.submit(_REQUEST, image=_png("red"))
    unused = service.upload(_png("blue"))
    fresh = service.upload(_png("green"))
    long_ago = time.time() - DAY_SECONDS - 1
    assert job.params.image is not None
    for key in (job.params.image, unused.key):
        os.utime(storage.path(key), (long_ago, long_ago))
    store.runner.claim(job.id, lease_seconds=10)
    store.runner.complete(job.id, 1, output={"folder": output_key(job.id, 1)}, result={})
    for token in (1, 2):
        storage.work.output_folder(job.id, token).mkdir(parents=True)
    storage.work.output_folder("video_gone", 1).mkdir(parents=True)

    cleaner.clean()

    assert _files(storage) == sorted([job.params.image, fresh.key])
    assert [outputs.job_id for outputs in storage.list_outputs()] == [job.id]
    assert not storage.work.output_folder(job.id, 2).exists()
    assert storage.work.output_folder(job.id, 1).exists()
    assert store.reader.get(job.id).state is JobState.COMPLETED


@pytest.fixture
def earlier(service: JobService, storage: Storage, store: JobStore) -> Job:
    """A completed job and its video, of 13 frames."""
    [job] = service.submit(_REQUEST, image=_png("red"))
    return _complete(job, storage, store)


def _complete(job: Job, storage: Storage, store: JobStore) -> Job:
    assert store.runner.claim(job.id, lease_seconds=10) is not None
    folder = storage.work.output_folder(job.id, 1)
    folder.mkdir(parents=True)
    (folder / "video.mp4").write_bytes(mp4())
    return store.runner.complete(job.id, 1, output={"folder": output_key(job.id, 1), "video": "video.mp4"}, result={})


def test_an_uploaded_video_is_regenerated_or_continued(service: JobService) -> None:
    upload = service.upload(mp4())
    upload_id = upload.key.rpartition("/")[2]

    [regenerated] = service.submit(_REGENERATE, video=upload_id)
    [continued] = service.submit(_REQUEST, image=upload_id)

    assert (regenerated.params.video, regenerated.params.image) == (upload.key, None)
    assert regenerated.params.num_frames == 13
    assert (continued.params.image, continued.params.video) == (upload.key, None)
    assert regenerated.total_steps == regenerated.params.steps_to_run < regenerated.params.steps
    assert (regenerated.source_job_id, continued.source_job_id) == (None, None)


def test_a_deleted_jobs_video_stays_as_the_input_of_other_jobs(
    service: JobService, cleaner: Cleaner, storage: Storage, store: JobStore, earlier: Job
) -> None:
    [regenerated] = service.submit(_REGENERATE, video=earlier.id)
    [continued] = service.submit(_REQUEST, image=earlier.id)
    assert regenerated.source_job_id == continued.source_job_id == earlier.id
    assert regenerated.params.video == continued.params.image is not None
    long_ago = time.time() - DAY_SECONDS - 1

    service.delete(earlier.id)
    for path in (storage.work.root / "inputs").iterdir():
        os.utime(path, (long_ago, long_ago))
    cleaner.clean()

    assert _files(storage) == [regenerated.params.video]
    assert storage.path(regenerated.params.video or "").read_bytes() == mp4()
    assert store.reader.get(regenerated.id).source_job_id == earlier.id


def test_the_stored_copy_of_a_video_is_charged_and_an_upload_only_once(
    service: JobService, store: JobStore, earlier: Job
) -> None:
    account = _limited(uploads_per_day=2)
    service.submit(_REGENERATE, video=earlier.id, account=account)
    [used] = store.usage.read(client="alice")
    assert (used.uploads, used.upload_bytes) == (1, len(mp4()))
    upload = service.upload(_png("blue"), account=account).key.removeprefix("inputs/")
    service.submit(_REQUEST, image=upload, account=account)
    with pytest.raises(LimitExceeded):
        service.submit(_REGENERATE, video=earlier.id, account=account)


@pytest.mark.parametrize("ending", ["pending", "processing", "cancelled", "failed", "deleted"])
def test_a_job_without_a_video_is_rejected_as_an_input(
    ending: str, service: JobService, storage: Storage, store: JobStore
) -> None:
    [job] = service.submit(_REQUEST, image=_png("red"))
    if ending in ("processing", "failed"):
        store.runner.claim(job.id, lease_seconds=10)
    if ending == "failed":
        store.runner.fail(job.id, 1, {"message": "It broke."})
    if ending == "cancelled":
        store.writer.request_cancel(job.id)
    if ending == "deleted":
        service.delete(job.id)
    before = _files(storage)

    kind = Conflict if ending in ("pending", "processing") else NotFound
    with pytest.raises(kind) as regenerated:
        service.submit(_REGENERATE, video=job.id)
    with pytest.raises(kind) as continued:
        service.submit(_REQUEST, image=job.id)
    assert (regenerated.value.param, continued.value.param) == ("video_path", "image_path")
    assert regenerated.value.can_retry is continued.value.can_retry is (kind is Conflict)
    with pytest.raises(kind):
        service.remix(job.id, "a dog")
    assert _files(storage) == before


def test_a_rejected_video_stores_nothing(service: JobService, storage: Storage, store: JobStore) -> None:
    rejected: list[tuple[GenerationRequest, dict[str, Any]]] = [
        (_REGENERATE, {"video": b"text"}),
        (_REGENERATE, {"video": _png("red")}),
        (_REGENERATE, {"video": mp4()[:-100]}),
        (_REGENERATE, {"video": mp4(), "image": _png("red")}),
        (_REGENERATE, {"image": mp4()}),
        (_REQUEST, {"video": mp4()}),
        (_REQUEST, {"image": mp4()[:-100]}),
        (_REQUEST, {"image": _png("red"), "end_image": mp4()}),
        (replace(_REGENERATE, num_frames=17), {"video": mp4()}),
        (replace(_REGENERATE, strength=0.01), {"video": mp4()}),
    ]
    for request, inputs in rejected:
        with pytest.raises(InvalidRequest):
            service.submit(request, **inputs)
    with pytest.raises(InvalidRequest):
        service.upload(mp4(ramp(0), movflags="empty_moov"))
    assert _files(storage) == []
    assert sum(store.reader.count().values()) == 0


def test_a_remix_changes_the_prompt_only(service: JobService, storage: Storage, store: JobStore, earlier: Job) -> None:
    remix = service.remix(earlier.id, "a dog", idempotency_key="k")

    assert remix.params == replace(earlier.params, prompt="a dog")
    assert (remix.source_job_id, remix.state) == (earlier.id, JobState.PENDING)
    assert service.remix(earlier.id, "a dog", idempotency_key="k") == remix
    with pytest.raises(IdempotencyConflict):
        service.remix(earlier.id, "a bird", idempotency_key="k")
    service.delete(earlier.id)
    assert storage.path(remix.params.image or "").read_bytes() == _png("red")


def test_a_key_can_not_name_a_file_outside_the_storage(storage: Storage) -> None:
    storage.work.root.mkdir()
    (storage.work.root.parent / "secret").touch()
    for key in ("../secret", "/etc/passwd", "inputs/../../secret"):
        with pytest.raises(NotFound):
            storage.path(key)


def test_a_retry_needs_the_jobs_inputs_and_model(service: JobService, store: JobStore, storage: Storage) -> None:
    [job] = service.submit(_REQUEST, image=_png("red"))
    store.writer.request_cancel(job.id)
    without_model = JobService(store, storage, [_CATALOGUE["tiny-t2v"]])
    with pytest.raises(InvalidRequest) as raised:
        without_model.retry(job.id)
    assert raised.value.param == "model_type"
    assert job.params.image is not None
    path = storage.path(job.params.image)
    path.rename(path.with_name("away"))
    with pytest.raises(InvalidRequest) as raised:
        service.retry(job.id)
    assert (raised.value.code, raised.value.param) == ("input_missing", "image_path")
    assert store.reader.get(job.id).state is JobState.CANCELLED
    path.with_name("away").rename(path)
    assert service.retry(job.id).state is JobState.PENDING


def test_a_pending_job_cannot_be_retried(service: JobService) -> None:
    [job] = service.submit(_REQUEST, image=_png("red"))
    with pytest.raises(JobNotRetryable):
        service.retry(job.id)


def test_cleaning_removes_old_webhooks(cleaner: Cleaner, store: JobStore, clock: Clock, database_url: str) -> None:
    ends = JobEnds(describe=describe, urls=("http://10.0.0.1/",))
    reporting = JobStore(database_url, clock=clock, job_ends=ends)
    reporting.writer.request_cancel(reporting.writer.submit(make_job()).id)
    reporting.database.close()
    [claimed] = store.deliveries.claim(trusted=True, limit=1, busy={}, limit_per_receiver=1)
    store.deliveries.record_success(claimed, 200)
    clock.now += Retention().webhook_seconds
    cleaner.clean()
    assert len(store.deliveries.page()) == 1
    clock.now += 1
    cleaner.clean()
    assert store.deliveries.page() == []


def test_a_repeated_request_gets_its_jobs_even_if_it_would_be_invalid_now(
    service: JobService, store: JobStore, storage: Storage
) -> None:
    def refuse(*arguments: object) -> Any:
        raise InvalidRequest("It is not allowed any more.")

    hook = "https://receiver.example/"
    first = service.submit(_REQUEST, seeds=[1, 2], image=_png("red"), webhook_url=hook, idempotency_key="k")
    other_model = [_CATALOGUE["tiny-t2v"]]
    for changed in (
        JobService(store, storage, other_model),
        JobService(store, storage, [_CATALOGUE["tiny-i2v"]], admit=refuse),
        JobService(store, storage, [_CATALOGUE["tiny-i2v"]], complete=refuse),
        JobService(store, storage, [_CATALOGUE["tiny-i2v"]], check_receiver=refuse),
    ):
        again = changed.submit(_REQUEST, seeds=[1, 2], image=_png("red"), webhook_url=hook, idempotency_key="k")
        assert [job.id for job in again] == [job.id for job in first]
        with pytest.raises(IdempotencyConflict):
            changed.submit(_REQUEST, seeds=[1, 3], image=_png("red"), webhook_url=hook, idempotency_key="k")
        with pytest.raises(InvalidRequest):
            changed.submit(_REQUEST, seeds=[1, 2], image=_png("red"), webhook_url=hook, idempotency_key="new")
    assert sum(store.reader.count().values()) == 2


def test_a_repeated_remix_gets_its_job_even_if_it_would_be_invalid_now(
    service: JobService, store: JobStore, storage: Storage
) -> None:
    [source] = service.submit(_REGENERATE)
    store.runner.claim(source.id, lease_seconds=60)
    store.runner.complete(source.id, 1, output={"folder": "x"}, result={})
    first = service.remix(source.id, "a dog", idempotency_key="k")
    changed = JobService(store, storage, [_CATALOGUE["tiny-i2v"]])
    assert changed.remix(source.id, " a dog ", idempotency_key="k").id == first.id
    with pytest.raises(IdempotencyConflict):
        changed.remix(source.id, "a bird", idempotency_key="k")
    service.delete(source.id)
    assert service.remix(source.id, "a dog", idempotency_key="k").id == first.id
    with pytest.raises(JobNotFound):
        service.remix(source.id, "a dog", idempotency_key="new")
