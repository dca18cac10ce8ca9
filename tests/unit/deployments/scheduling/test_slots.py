"""What the dispatcher knows of its slots."""

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
    assert sum(map(len, slots.free(1).values())) == 1, "others run jobs, too"


def test_a_slot_whose_generator_died_holds_nothing() -> None:
    slots = Slots(1)
    slots.begin(0, A, ends_at=10)
    slots.end(0, holds=False, load_seconds=None)
    assert slots.free(1) == {(): [0]}


def test_what_has_not_been_used_the_longest_comes_first() -> None:
    slots = Slots(3)
    for index, need in ((0, A), (1, B), (2, A_FP8)):
        slots.begin(index, need, ends_at=10)
    for index in (1, 2, 0):
        slots.end(index, holds=True, load_seconds=None)
    assert list(slots.free(3)) == [(B,), (A_FP8,), (A,)]


def test_soon_is_twice_as_long_as_the_type_took_to_be_loaded_the_last_time() -> None:
    slots = Slots(1)
    slots.begin(0, A, ends_at=100)
    slots.end(0, holds=True, load_seconds=40)
    slots.begin(0, A_FP8, ends_at=190)
    assert not slots.soon(now=109)
    assert slots.soon(now=111) == {"A": 1}
    slots.expect(0, ends_at=200)
    assert not slots.soon(now=111)


def test_a_job_that_found_its_type_there_tells_nothing_of_how_long_it_takes_to_load() -> None:
    slots = Slots(1)
    for load_seconds in (40.0, 1.0):
        slots.begin(0, A, ends_at=100)
        slots.end(0, holds=True, load_seconds=load_seconds)
    slots.begin(0, A, ends_at=100)
    assert slots.soon(now=21) == {"A": 1}


def test_a_slot_keeps_as_many_models_of_a_type_as_it_may_and_all_go_with_the_replica() -> None:
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
    assert run(B) == [(B,)], "another type is another replica"


def test_a_slot_of_replicas_that_take_all_types_keeps_several_types() -> None:
    slots = Slots(1, models=2, shared=True)
    for need in (A, B):
        slots.begin(0, need, ends_at=0)
        slots.end(0, holds=True, load_seconds=None)
    assert list(slots.free(1)) == [(A, B)]
    slots.see({"A": 0, "B": 1})
    assert list(slots.free(1)) == [(A, B)], "one replica is there, whatever it is called"
    slots.see({})
    assert list(slots.free(1)) == [()]


def test_what_a_replica_held_that_has_gone_is_forgotten() -> None:
    slots = Slots(3)
    for index, need in ((0, A), (1, A_FP8), (2, B)):
        slots.begin(index, need, ends_at=0)
    for index in (1, 2):
        slots.end(index, holds=True, load_seconds=None)
    slots.see({"A": 2, "B": 1})
    assert slots.free(3) == {(A_FP8,): [1], (B,): [2]}
    slots.see({"A": 1, "B": 1})
    assert slots.free(3) == {(): [1], (B,): [2]}
    slots.see({})
    assert slots.free(3) == {(): [1, 2]}
    slots.end(0, holds=True, load_seconds=None)
    assert (A,) in slots.free(3), "the job that ran was there, whatever was seen"
