"""Attempts without progress: what counts against a job, and when the job fails."""

import pytest

from deployments.jobs.attempts import INTERRUPTIONS_PER_ATTEMPT, Interruption
from deployments.jobs.job import Job, JobState
from deployments.jobs.store import JobStore
from tests.jobs import expire_leases, make_job, make_params
from wan22_bridge.types import Progress, Stage

_STEPS = 40
_LOADING = Progress(stage=Stage.LOADING_MODEL, total_steps=_STEPS)
_DECODING = Progress(stage=Stage.POST_PROCESSING, current_step=_STEPS, total_steps=_STEPS)


def _step(step: int, *, saved: int = 0) -> Progress:
    return Progress(stage=Stage.GENERATING, current_step=step, total_steps=_STEPS, saved_steps=saved)


def _submit(store: JobStore) -> str:
    return store.writer.submit(make_job(params=make_params(steps=_STEPS))).id


def _attempt(
    store: JobStore, job_id: str, *reports: Progress, how: Interruption = Interruption.PROCESS_DIED, most: int = 3
) -> Job:
    """Claims a job, reports progress, and interrupts the job; it fails if it was interrupted once too often."""
    job = store.runner.claim(job_id, lease_seconds=60)
    assert job is not None
    for report in reports:
        store.runner.record_progress(job_id, job.fencing_token, report)
    if how is Interruption.LEASE_EXPIRED:
        expire_leases(store)
        store.runner.reclaim_expired(max_attempts=most)
    else:
        error = store.runner.give_back(job_id, job.fencing_token, how, max_attempts=most)
        if error is not None:
            store.runner.fail(job_id, job.fencing_token, error)
    return store.reader.get(job_id)


@pytest.mark.parametrize("report", [_step(7), _step(0), _DECODING], ids=["step 7", "the first step", "decoding"])
def test_a_job_whose_process_dies_at_the_same_place_fails_after_the_last_attempt(
    store: JobStore, report: Progress
) -> None:
    job_id = _submit(store)
    for attempt in (1, 2):
        job = _attempt(store, job_id, report)
        assert (job.state, job.attempt) == (JobState.PENDING, attempt)
    job = _attempt(store, job_id, report)
    assert (job.state, job.attempt) == (JobState.FAILED, 3)
    assert job.error is not None
    assert (job.error["code"], job.error["can_retry"]) == ("interrupted", True)
    assert job.error["message"] == (
        "3 attempts failed without progress, because the process that ran the job died: none stored a snapshot. "
        f"The last attempt reached step {report.current_step} of 40 in the stage {report.stage.value}."
    )


def test_a_job_whose_attempts_all_advance_it_never_fails(store: JobStore) -> None:
    job_id = _submit(store)
    for saved in range(1, _STEPS):
        job = _attempt(store, job_id, _step(saved), _step(saved, saved=saved), most=1)
        assert (job.state, job.attempt, job.saved_steps) == (JobState.PENDING, saved, saved)


def test_progress_resets_the_count_and_an_earlier_snapshot_does_not(store: JobStore) -> None:
    job_id = _submit(store)
    _attempt(store, job_id, _step(9))
    _attempt(store, job_id, _step(9))
    _attempt(store, job_id, _step(9, saved=8))  # progress
    _attempt(store, job_id, _step(9, saved=8))  # resumes there and dies
    _attempt(store, job_id, _step(3, saved=2))  # rejects the snapshot and starts over
    job = _attempt(store, job_id, _step(9, saved=8))
    assert (job.state, job.attempt) == (JobState.FAILED, 6)
    assert job.error is not None
    assert "3 attempts failed" in job.error["message"]
    assert "none stored a snapshot after step 8." in job.error["message"]


@pytest.mark.parametrize(
    ("report", "how"),
    [(_LOADING, Interruption.PROCESS_DIED), (_step(7), Interruption.LEASE_EXPIRED)],
    ids=["death while loading", "crash of the machine"],
)
def test_interruptions_that_are_not_the_jobs_fault_end_it_much_later(
    store: JobStore, report: Progress, how: Interruption
) -> None:
    job_id = _submit(store)
    most = 3 * INTERRUPTIONS_PER_ATTEMPT
    for attempt in range(1, most):
        job = _attempt(store, job_id, report, how=how)
        assert (job.state, job.attempt, job.stalled_attempts) == (JobState.PENDING, attempt, 0)
    job = _attempt(store, job_id, report, how=how)
    assert (job.state, job.attempt) == (JobState.FAILED, most)
    assert job.error is not None
    assert job.error["code"] == "interrupted"
    assert f"interrupted {most} times without progress" in job.error["message"]


def test_interruptions_of_other_kinds_do_not_reset_the_failed_attempts(store: JobStore) -> None:
    job_id = _submit(store)
    for _ in range(2):
        _attempt(store, job_id, _step(7))
        _attempt(store, job_id, _LOADING)
        assert _attempt(store, job_id, _step(7), how=Interruption.LEASE_EXPIRED).state is JobState.PENDING
    assert _attempt(store, job_id, _step(7)).state is JobState.FAILED


def test_a_job_that_no_generator_begins_fails_after_the_last_attempt(store: JobStore) -> None:
    job_id = _submit(store)
    assert _attempt(store, job_id, how=Interruption.NOT_BEGUN, most=2).state is JobState.PENDING
    job = _attempt(store, job_id, how=Interruption.NOT_BEGUN, most=2)
    assert (job.state, (job.error or {})["code"]) == (JobState.FAILED, "generator_unavailable")


def test_an_attempt_that_a_shutdown_ended_does_not_count(store: JobStore) -> None:
    job_id = _submit(store)
    for token in range(1, 9):
        store.runner.claim(job_id, lease_seconds=60)
        store.runner.record_progress(job_id, token, _step(7))
        assert store.runner.release(job_id, token).attempt == 0
    assert _attempt(store, job_id, _step(7), most=2).state is JobState.PENDING


def test_a_retry_by_a_client_counts_from_the_beginning(store: JobStore) -> None:
    job_id = _submit(store)
    _attempt(store, job_id, _step(9, saved=8), most=1)
    assert _attempt(store, job_id, _step(9, saved=8), most=1).state is JobState.FAILED
    retried = store.writer.retry(job_id)
    assert (retried.attempt, retried.saved_steps, retried.progress_attempt, retried.stalled_attempts) == (0, 0, 0, 0)
    assert _attempt(store, job_id, _step(4), most=2).state is JobState.PENDING


def test_an_interrupted_job_that_a_client_has_cancelled_ends(store: JobStore) -> None:
    job_id = _submit(store)
    job = store.runner.claim(job_id, lease_seconds=60)
    assert job is not None
    store.writer.request_cancel(job_id)
    assert store.runner.give_back(job_id, 1, Interruption.PROCESS_DIED, max_attempts=1) is None
    assert store.reader.get(job_id).state is JobState.CANCELLED
