"""The scheduler: priorities, holdings of slots, fair shares and a user's order, without starving any job."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.scheduling.policy import Holding, Ledger, Need, Policy, Waiting
from deployments.scheduling.queue import Queue

A, B, C = (Need(kind, f"{kind}-bf16") for kind in ("A", "B", "C"))
A_FP8 = Need("A", "A-fp8")
A_STYLE = Need("A", "A-bf16", ("style",))
POLICY = Policy(age_seconds=600, patience_seconds=300, patience_jobs=4)


def waits(number: int, need: Need = A, **changes: Any) -> Waiting:
    """Makes a job of ten seconds that was submitted at second `number`."""
    usual: dict[str, Any] = {
        "owner": "ann",
        "priority": 0,
        "since": float(number),
        "cost_seconds": 10.0,
        "queue_order": number,
    }
    return Waiting(number=number, need=need, **(usual | changes))


def order(
    jobs: Sequence[Waiting], held: Need | None = None, *, now: float = 0.0, ledger: Ledger | None = None
) -> list[int]:
    """Returns the numbers of the jobs in the order in which one slot begins them, all at the time `now`."""
    queue, numbers = Queue(POLICY, ledger or Ledger(), jobs), []
    while len(queue):
        [(job, _)] = queue.assign({(held,) if held else (): [0]}, now)
        numbers.append(job.number)
        held = job.need
    return numbers


def test_the_oldest_job_begins_first() -> None:
    assert order([waits(2), waits(1), waits(3)]) == [1, 2, 3]


def test_a_higher_priority_comes_before_loaded_models() -> None:
    assert order([waits(1), waits(2, priority=-1), waits(3, B, priority=1)], held=A) == [3, 1, 2]


def test_a_lower_priority_rises_by_waiting() -> None:
    jobs = [waits(0, priority=-1), *(waits(number, priority=0) for number in range(1, 9))]
    assert order(jobs, now=590)[0] == 1
    ledger = Ledger(begun={0: 700.0})
    assert order(jobs, now=1250, ledger=ledger)[0] == 0, "two classes risen against none"


@pytest.mark.parametrize(
    ("held", "first"),
    [(A, 2), (A_FP8, 4), (A_STYLE, 3), (B, 1), (C, 1), (None, 1)],
)
def test_the_job_that_needs_the_least_loaded_begins_first(held: Need | None, first: int) -> None:
    assert order([waits(1, B), waits(2, A), waits(3, A_STYLE), waits(4, A_FP8)], held)[0] == first


def test_a_loaded_type_overtakes_another_type_only_within_the_patience() -> None:
    jobs = [waits(0, B), waits(290, A), waits(310, A)]
    assert order(jobs, held=A, now=310) == [290, 0, 310]


@pytest.mark.parametrize(("need", "patience"), [(A_STYLE, 100), (A_FP8, 200)])
def test_a_job_that_needs_less_loaded_is_overtaken_less(need: Need, patience: int) -> None:
    jobs = [waits(0, need), waits(patience - 10, A), waits(patience + 10, A)]
    assert order(jobs, held=A, now=patience + 10) == [patience - 10, 0, patience + 10]


def test_the_patience_grows_with_the_run_time_of_jobs() -> None:
    long = {"cost_seconds": 1000.0}
    assert order([waits(0, B, **long), waits(3900, A, **long), waits(4100, A, **long)], held=A, now=4100) == [
        3900,
        0,
        4100,
    ]


def test_owners_get_equal_shares() -> None:
    jobs = [waits(number, owner="heavy") for number in range(20)] + [
        waits(20 + number, owner="light") for number in range(3)
    ]
    assert order(jobs)[:6] == [0, 20, 1, 21, 2, 22]


def test_an_owner_gains_nothing_by_being_away() -> None:
    ledger = Ledger()
    order([waits(number, owner="busy") for number in range(10)], ledger=ledger)
    jobs = [
        waits(10 + number, owner=owner) for number, owner in enumerate(["busy", "busy", "new", "new", "new", "new"])
    ]
    assert order(jobs, ledger=ledger)[:4] in ([12, 10, 13, 11], [12, 13, 10, 14]), "the new owner is not ten jobs ahead"


def test_a_users_order_comes_before_loaded_models() -> None:
    jobs = [waits(1, A, queue_order=3), waits(2, B, queue_order=1), waits(3, A, queue_order=2)]
    assert order(jobs, held=A) == [2, 3, 1]


def test_each_slot_gets_a_job_for_the_model_that_it_holds() -> None:
    queue = Queue(POLICY, Ledger(), [waits(1, A), waits(2, B), waits(3, C)])
    found = queue.assign({(B,): [7], (A,): [8], (): [9]}, now=3)
    assert {job.number: slot for job, slot in found} == {1: 8, 2: 7, 3: 9}


def test_assigning_leaves_the_callers_free_slots_unchanged() -> None:
    free = {(B,): [7], (): [8, 9]}
    assert len(Queue(POLICY, Ledger(), [waits(1, A), waits(2, B)]).assign(free, now=2)) == 2
    assert free == {(B,): [7], (): [8, 9]}


def test_a_job_gets_the_free_slot_that_holds_its_model() -> None:
    [(_, slot)] = Queue(POLICY, Ledger(), [waits(1, B)]).assign({(C,): [0], (B,): [1]}, now=1)
    assert slot == 1


def test_a_job_waits_for_a_slot_that_becomes_free_before_another_could_load_the_model() -> None:
    queue = Queue(POLICY, Ledger(), [waits(1, B), waits(2, B)])
    assert [job.number for job, _ in queue.assign({(A,): [0, 1]}, now=2, soon={"B": 1})] == [1]
    assert queue.assign({(A,): [1]}, now=2, soon={"B": 1}) == []
    assert [job.number for job, _ in queue.assign({(A,): [1]}, now=2)] == [2]


jobs_strategy = st.lists(
    st.builds(
        lambda need, owner, priority, cost, gap: (need, owner, priority, cost, gap),
        st.sampled_from([A, A_FP8, A_STYLE, B, C]),
        st.sampled_from(["ann", "bob", "cy"]),
        st.sampled_from([-1, 0, 1]),
        st.floats(1, 500),
        st.floats(0, 200),
    ),
    min_size=1,
    max_size=60,
)


def submitted(drawn: list[tuple[Need, str, int, float, float]]) -> list[Waiting]:
    at, jobs = 0.0, []
    for number, (need, owner, priority, cost, gap) in enumerate(drawn):
        at += gap
        jobs.append(waits(number, need, owner=owner, priority=priority, cost_seconds=cost, since=at))
    return jobs


def replay(jobs: Sequence[Waiting], slots: int) -> dict[int, tuple[float, int]]:
    """Simulates the slots, and returns the begin and the slot of each job."""
    queue, began, held = Queue(POLICY, Ledger()), dict[int, tuple[float, int]](), dict[int, Holding]()
    free_at = dict.fromkeys(range(slots), 0.0)
    moments = sorted({job.since for job in jobs})
    now = 0.0
    left = list(jobs)
    while left or len(queue):
        while left and left[0].since <= now:
            queue.add(left.pop(0))
        free: dict[Holding, list[int]] = {}
        for slot, at in free_at.items():
            if at <= now:
                free.setdefault(held.get(slot, ()), []).append(slot)
        idle = sum(map(len, free.values()))
        assigned = queue.assign(free, now)
        assert len(assigned) == idle or not len(queue), "a slot is idle while a job waits"
        for job, slot in assigned:
            assert job.number not in began, "assigned twice"
            began[job.number] = now, slot
            held[slot] = (job.need,)
            free_at[slot] = now + job.cost_seconds
        now = min([at for at in free_at.values() if at > now] + [at for at in moments if at > now], default=math.inf)
    return began


@given(jobs_strategy, st.integers(1, 4))
def test_each_job_is_assigned_once_and_no_slot_idles(
    drawn: list[tuple[Need, str, int, float, float]], slots: int
) -> None:
    jobs = submitted(drawn)
    assert set(replay(jobs, slots)) == {job.number for job in jobs}


@given(jobs_strategy)
def test_the_order_does_not_depend_on_the_order_of_adding(
    drawn: list[tuple[Need, str, int, float, float]],
) -> None:
    jobs = submitted(drawn)
    now = jobs[-1].since
    assert order(jobs, now=now) == order(jobs[::-1], now=now)


@given(jobs_strategy)
def test_equal_jobs_begin_in_the_order_of_their_submission(drawn: list[tuple[Need, str, int, float, float]]) -> None:
    jobs = submitted(drawn)
    began = replay(jobs, 1)
    alike = dict[tuple[Need, str, int], list[float]]()
    for job in jobs:
        alike.setdefault((job.need, job.owner, job.priority), []).append(began[job.number][0])
    assert all(times == sorted(times) for times in alike.values())


@given(st.integers(1, 3), st.sampled_from([-1, 0]), st.sampled_from([A, B]))
def test_no_job_starves_under_a_stream_of_jobs_that_come_first(others: int, priority: int, need: Need) -> None:
    """Submits one job of a low class, while other owners keep the slot busy with jobs of the highest class."""
    cost = 50.0
    bound = (1 - priority) * POLICY.age_seconds + POLICY.patience(3, cost) * others + cost * (others + 1)
    queue = Queue(POLICY, Ledger(), [waits(0, need, owner="low", priority=priority)])
    begun, now = list[int](), 0.0
    while now <= bound and 0 not in begun:
        for owner in range(others):
            number = 1 + owner + len(begun) * others
            queue.add(waits(number, C, owner=str(owner), priority=1, since=now, cost_seconds=cost))
        [(job, _)] = queue.assign({(C,): [0]}, now)
        begun.append(job.number)
        now += cost
    assert 0 in begun, f"the job still waits after {bound:.0f} s"
