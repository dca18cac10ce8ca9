"""The dispatcher's model of its slots."""

from deployments.scheduling.policy import Holding, Need
from deployments.scheduling.slots import Slots

A, A_FP8, B = Need("A", "A-bf16"), Need("A", "A-fp8"), Need("B", "B-bf16")


def test_a_slot_holds_what_its_last_job_needed() -> None:
    slots = Slots(2)
    assert slots.free(2) == {(): [0, 1]}
    slots.begin(0, A, ends_at=10)
    assert slots.free(2) == {(): [1]}
    slots.end(0, holds=True, load_seconds=None)
    assert slots.free(2) == {(A,): [0], (): [1]}
    assert sum(map(len, slots.free(1).values())) == 1, "the limit counts"


def test_a_slot_with_a_dead_generator_holds_nothing() -> None:
    slots = Slots(1)
    slots.begin(0, A, ends_at=10)
    slots.end(0, holds=False, load_seconds=None)
    assert slots.free(1) == {(): [0]}


def test_the_least_recently_used_slots_come_first() -> None:
    slots = Slots(3)
    for index, need in ((0, A), (1, B), (2, A_FP8)):
        slots.begin(index, need, ends_at=10)
    for index in (1, 2, 0):
        slots.end(index, holds=True, load_seconds=None)
    assert list(slots.free(3)) == [(B,), (A_FP8,), (A,)]


def test_soon_means_within_twice_the_last_load_time_of_the_type() -> None:
    slots = Slots(1)
    slots.begin(0, A, ends_at=100)
    slots.end(0, holds=True, load_seconds=40)
    slots.begin(0, A_FP8, ends_at=190)
    assert not slots.soon(now=109)
    assert slots.soon(now=111) == {"A": 1}
    slots.expect(0, ends_at=200)
    assert not slots.soon(now=111)


def test_a_job_on_a_loaded_type_does_not_change_the_load_time() -> None:
    slots = Slots(1)
    for load_seconds in (40.0, 1.0):
        slots.begin(0, A, ends_at=100)
        slots.end(0, holds=True, load_seconds=load_seconds)
    slots.begin(0, A, ends_at=100)
    assert slots.soon(now=21) == {"A": 1}


def test_a_slot_keeps_several_models_of_a_type_and_loses_them_with_the_replica() -> None:
    slots = Slots(1, models=2)

    def run(need: Need) -> list[Holding]:
        slots.begin(0, need, ends_at=0)
        slots.end(0, holds=True, load_seconds=None)
        return list(slots.free(1))

    assert run(A) == [(A,)]
    assert run(A_FP8) == [(A, A_FP8)]
    assert run(A) == [(A_FP8, A)]
    assert run(Need("A", "A-int8")) == [(A, Need("A", "A-int8"))]
    assert run(A._replace(loras=("style",))) == [(Need("A", "A-int8"), A._replace(loras=("style",)))]
    assert run(B) == [(B,)], "each type has its own replica"


def test_a_slot_of_shared_replicas_keeps_several_types() -> None:
    slots = Slots(1, models=2, shared=True)
    for need in (A, B):
        slots.begin(0, need, ends_at=0)
        slots.end(0, holds=True, load_seconds=None)
    assert list(slots.free(1)) == [(A, B)]
    slots.forget_missing({"A": 0, "B": 1})
    assert list(slots.free(1)) == [(A, B)], "one shared replica is alive, under any name"
    slots.forget_missing({})
    assert list(slots.free(1)) == [()]


def test_slots_forget_the_models_of_missing_replicas() -> None:
    slots = Slots(3)
    for index, need in ((0, A), (1, A_FP8), (2, B)):
        slots.begin(index, need, ends_at=0)
    for index in (1, 2):
        slots.end(index, holds=True, load_seconds=None)
    slots.forget_missing({"A": 2, "B": 1})
    assert slots.free(3) == {(A_FP8,): [1], (B,): [2]}
    slots.forget_missing({"A": 1, "B": 1})
    assert slots.free(3) == {(): [1], (B,): [2]}
    slots.forget_missing({})
    assert slots.free(3) == {(): [1, 2]}
    slots.end(0, holds=True, load_seconds=None)
    assert (A,) in slots.free(3), "a running job proves its replica alive"
