"""The next job: the highest priority, then the oldest, where its type has room."""

from dataclasses import replace

from deployments.jobs.job import Job, JobState, Priority
from deployments.scheduling import Slots, choose_next
from tests.jobs import make_params
from wan22_bridge.types import ModelType

_SLOTS = Slots(total=2, by_type={ModelType.T2V: 1, ModelType.I2V: 1})


def _job(number: int, model_type: ModelType = ModelType.T2V, priority: Priority = Priority.NORMAL) -> Job:
    return Job(
        number=number,
        id=f"video_{number}",
        state=JobState.PENDING,
        params=make_params(model_type=model_type),
        priority=priority,
        metadata={},
        attempt=0,
        fencing_token=0,
        lease_expires_at=None,
        cancel_requested=False,
        stage="queued",
        progress=0.0,
        current_step=0,
        total_steps=2,
        eta_seconds=None,
        created_at=0.0,
        started_at=None,
        completed_at=None,
        output=None,
        result=None,
        error=None,
    )


def test_the_oldest_goes_first() -> None:
    assert choose_next([_job(2), _job(1)], [], _SLOTS) == _job(1)


def test_a_higher_priority_overtakes() -> None:
    high = _job(3, priority=Priority.HIGH)
    assert choose_next([_job(1), _job(2, priority=Priority.LOW), high], [], _SLOTS) == high


def test_a_busy_type_lets_another_pass() -> None:
    other = _job(3, ModelType.I2V)
    assert choose_next([_job(2), other], [_job(1)], _SLOTS) == other


def test_nothing_starts_without_a_free_slot() -> None:
    running = [_job(1), _job(2, ModelType.I2V)]
    assert choose_next([_job(3)], running, replace(_SLOTS, by_type={ModelType.T2V: 9})) is None
    assert choose_next([_job(3)], [_job(1)], _SLOTS) is None
    assert choose_next([_job(3, ModelType.TI2V)], [], _SLOTS) is None


def test_nothing_pending_is_nothing() -> None:
    assert choose_next([], [], _SLOTS) is None
