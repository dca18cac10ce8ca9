"""Tests of the changes of a loaded model's plan: for another request, after a failure, and when memory becomes free."""

from dataclasses import replace

from tests.unit.wan22_bridge.planning.test_planner import T2V, machine, meter, planner, shape_of, tiny_planner
from wan22_bridge.plans import GIB, Offload, OptimizationPlan, Quantization, RequestShape, Residence

RESIDENT, ON_DEMAND = Residence.RESIDENT, Residence.ON_DEMAND
SMALL, LARGE = shape_of(T2V, 480), shape_of(T2V, 704)
TINY = RequestShape(width=128, height=128, num_frames=17)


def test_a_plan_is_made_for_the_size_of_the_request_without_a_reload() -> None:
    """80 GB hold all weights of A14B beside a small video, and not beside a large one."""
    planned = planner(T2V, machine(80, 256))
    small = planned.choose(SMALL)
    large = planned.keep_or_choose(small, LARGE)

    assert (small.describe(), large.quantization) == ([], Quantization.NONE)
    assert large.text_encoder is ON_DEMAND
    assert small.can_become(large)
    assert planned.keep_or_choose(large, SMALL) == small


def test_a_faster_plan_for_a_smaller_request_is_not_worth_a_reload() -> None:
    planned = planner(T2V, machine(36, 256))
    large = planned.choose(LARGE)
    small = planned.choose(SMALL)
    assert (large.experts, small.experts) == (Residence.STREAMED, ON_DEMAND)
    planned.choose(LARGE)

    assert planned.keep_or_choose(large, SMALL) == large


def test_the_storage_of_the_weights_does_not_depend_on_earlier_requests() -> None:
    planned = planner(T2V, machine(36, 48))
    small, large = planned.choose(SMALL), planned.choose(LARGE)
    assert (small.quantization, large.quantization) == (Quantization.FP8, Quantization.NONE)

    assert planned.keep_or_choose(large, SMALL) == small


def test_a_plan_becomes_better_when_memory_becomes_free() -> None:
    planned = planner(T2V, machine(24, 256))
    before = planned.choose(LARGE)
    assert planned.keep_or_choose(before, LARGE) == before

    planned.refresh(machine(141, 256))

    assert before.describe() != []
    assert planned.keep_or_choose(before, LARGE).describe() == []


def test_less_free_memory_than_at_loading_does_not_change_a_plan() -> None:
    planned = planner(T2V, machine(80, 256))
    plan = planned.choose(SMALL)

    planned.refresh(machine(24, 16))

    assert planned.keep_or_choose(plan, SMALL) == plan


def test_running_out_while_decoding_changes_only_the_tile_and_then_puts_the_experts_off() -> None:
    planned = planner(T2V, machine(80, 256))
    plan = planned.choose(SMALL)
    found: list[OptimizationPlan] = []
    while (rung := planned.next_rung((found or [plan])[-1], SMALL, ["decode"])) is not None and len(found) < 4:
        found.append(rung)

    assert [rung.vae_tile for rung in found[:3]] == [512, 256, 128]
    assert all(replace(rung, vae_tile=None) == plan for rung in found[:3])
    assert found[3].experts is ON_DEMAND
    assert all(plan.can_become(rung) for rung in found)


def test_limits_of_a_request_hold_after_it_ran_out_while_decoding() -> None:
    planned = planner(T2V, machine(141, 256))
    shape = replace(SMALL, limits=replace(SMALL.limits, enable_offload=False))
    rung: OptimizationPlan | None = planned.choose(shape)

    while rung is not None:
        assert not rung.is_offloaded
        rung = planned.next_rung(rung, shape, ["decode"])


def test_later_requests_avoid_what_ran_out_until_memory_is_free() -> None:
    planned, full = tiny_planner(machine(80, 128)), machine(80, 128)
    plan = planned.choose(TINY)
    busy = replace(full, vram_free_bytes=GIB)

    rung = planned.next_rung(plan, TINY, ["decode"], busy)
    assert rung is not None

    planned.refresh(busy)
    later = planned.keep_or_choose(rung, TINY)
    assert later != plan
    assert planned.estimate(later, TINY).stages["decode"] < planned.estimate(plan, TINY).stages["decode"]
    planned.refresh(full)
    assert planned.keep_or_choose(rung, TINY) == plan


def test_a_request_is_attempted_again_where_every_plan_takes_what_ran_out() -> None:
    planned = tiny_planner(machine(80, 128))
    plan: OptimizationPlan | None = planned.choose(TINY)
    while plan is not None:
        last, plan = plan, planned.next_rung(plan, TINY, ["denoise"])

    assert planned.choose(replace(TINY, width=512, height=512)) is not None
    assert last == planned.choose(TINY)


def test_components_of_a_group_or_on_the_disk_do_not_move() -> None:
    plan = planner(T2V, machine(80, 256)).choose(SMALL)
    off = replace(plan, experts=ON_DEMAND)

    assert plan.can_become(off)
    assert not replace(plan, parallel_degree=2).can_become(replace(off, parallel_degree=2))
    assert not replace(plan, offload=Offload.DISK).can_become(replace(off, offload=Offload.DISK))
    assert not plan.can_become(replace(plan, experts=Residence.STREAMED))
    assert not plan.can_become(replace(plan, quantization=Quantization.FP8))
    assert meter(T2V).measure(SMALL).experts == 2
