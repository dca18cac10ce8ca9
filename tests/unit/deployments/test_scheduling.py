"""The next job: the highest priority, then the oldest, where its type has room."""

from dataclasses import replace

import pytest

from deployments.jobs.job import Job, JobState, Priority
from deployments.scheduling import Slots, choose_next, types_with_room
from tests.jobs import make_params
from wan22_bridge.types import ModelType

_SLOTS = Slots(total=2, by_type={ModelType.T2V: 1, ModelType.I2V: 1})


def _job(number: int, model_type: ModelType = ModelType.T2V, priority: Priority = Priority.NORMAL) -> Job:
    return Job(
        source_job_id=None,
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
    assert choose_next([_job(2), _job(1)]) == _job(1)


def test_a_higher_priority_overtakes() -> None:
    high = _job(3, priority=Priority.HIGH)
    assert choose_next([_job(1), _job(2, priority=Priority.LOW), high]) == high


def test_nothing_pending_is_nothing() -> None:
    assert choose_next([]) is None


@pytest.mark.parametrize(
    ("running", "room"),
    [
        ([], {ModelType.T2V, ModelType.I2V}),
        ([_job(1)], {ModelType.I2V}),
        ([_job(1), _job(2, ModelType.I2V)], set()),
    ],
)
def test_a_busy_type_leaves_room_for_others_up_to_the_total(running: list[Job], room: set[ModelType]) -> None:
    assert types_with_room(running, _SLOTS) == room


def test_a_type_with_a_slot_of_its_own_still_waits_for_the_total() -> None:
    running = [_job(1), _job(2)]
    assert types_with_room(running, replace(_SLOTS, by_type={ModelType.T2V: 9})) == set()
