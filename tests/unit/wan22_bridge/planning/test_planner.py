"""Tests of footprints, estimates and plans.

The published models are measured on the meta device, so no weights are needed.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import ConfigurationError, InvalidRequest, OutOfMemory
from wan22_bridge.models.architecture import Architecture, find_architecture
from wan22_bridge.options import QuantizationLevel, StepCache
from wan22_bridge.planning.estimates import add_run, estimate_memory, fits
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.planner import Planner, list_smaller
from wan22_bridge.planning.rungs import base_plan, list_rungs
from wan22_bridge.plans import (
    GIB,
    Footprint,
    HardwareProfile,
    Offload,
    OptimizationPlan,
    PlanConstraints,
    Quantization,
    RequestLimits,
    RequestShape,
    Residence,
)

T2V, I2V, TI2V = "wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "wan2.2-ti2v-5b"
FRAMES = {T2V: 81, I2V: 81, TI2V: 121}


def shape_of(model_id: str, height: int) -> RequestShape:
    width = {480: 832, 704: 1280}[height]
    return RequestShape(width=width, height=height, num_frames=FRAMES[model_id], image=model_id != T2V)


def machine(gpu_gb: int, ram_gb: int, gpus: int = 1) -> HardwareProfile:
    return HardwareProfile(
        device="cuda",
        name="test GPU",
        vram_total_bytes=gpu_gb * GIB,
        vram_free_bytes=int(0.97 * gpu_gb * GIB),
        compute_capability=(8, 9),
        ram_total_bytes=ram_gb * GIB,
        ram_available_bytes=int(0.9 * ram_gb * GIB),
        disk_free_bytes=500 * GIB,
        gpu_count=gpus,
    )


@cache
def architecture(model_id: str) -> Architecture:
    return find_architecture(load_catalogue()[model_id])


@cache
def meter(model_id: str) -> FootprintMeter:
    return FootprintMeter(architecture(model_id), "cuda", base_plan("cuda").dtypes)


def planner(model_id: str, hardware: HardwareProfile, quantization: Quantization | None = None) -> Planner:
    return Planner(
        load_catalogue()[model_id], hardware, meter(model_id).measure, PlanConstraints(quantization=quantization)
    )


def plan_for(model_id: str, height: int, gpu_gb: int, ram_gb: int, gpus: int = 1) -> OptimizationPlan:
    return planner(model_id, machine(gpu_gb, ram_gb, gpus)).choose(shape_of(model_id, height))


@pytest.mark.parametrize(
    ("model_id", "expert", "text_encoder", "vae"),
    [
        (T2V, 14_288_491_584, 5_680_910_336, 126_892_531),
        (I2V, 14_288_901_184, 5_680_910_336, 126_892_531),
        (TI2V, 4_999_787_712, 5_680_910_336, 704_688_668),
    ],
)
def test_published_models_have_their_published_number_of_parameters(
    model_id: str, expert: int, text_encoder: int, vae: int
) -> None:
    built = architecture(model_id)

    def count(module: object) -> int:
        return sum(parameter.numel() for parameter in module.parameters())  # type: ignore[attr-defined]

    found = [count(build()) for build in (built.build_transformer, built.build_text_encoder, built.build_vae)]
    assert found == [expert, text_encoder, vae]


def test_estimated_a14b_expert_size_equals_the_size_of_the_loaded_weights() -> None:
    expert = meter(T2V).measure(shape_of(T2V, 480)).expert

    assert round(expert[Quantization.NONE].total / 1e9, 2) == 28.64
    assert round(expert[Quantization.FP8].total / 1e9, 2) == 14.58
    assert round(expert[Quantization.NONE].block / 1e6) == 703


def test_blocks_and_rest_of_a_component_add_up_to_its_total() -> None:
    footprint = meter(TI2V).measure(shape_of(TI2V, 480))

    for part, blocks in ((footprint.expert[Quantization.NONE], 30), (footprint.text_encoder, 24)):
        # This works for UMT5 too, because its relative position biases are in each block: all blocks are equal.
        assert part.rest + blocks * part.block == part.total
        assert part.layer <= part.block + part.rest


def test_activations_grow_with_pixels_and_frames_and_shrink_with_tiles() -> None:
    small, large = (meter(T2V).measure(shape_of(T2V, height)) for height in (480, 704))
    short = meter(T2V).measure(replace(shape_of(T2V, 480), num_frames=41))

    assert large.tokens == 73_920
    assert large.denoise_bytes / small.denoise_bytes == pytest.approx(large.tokens / small.tokens, rel=0.01)
    assert short.denoise_bytes < small.denoise_bytes
    assert short.decode_bytes == small.decode_bytes
    tiles = [large.decode_bytes[tile] for tile in (None, 512, 256, 128)]
    assert tiles == sorted(tiles, reverse=True)
    assert small.encode_image_bytes == {}


GOLDEN = {
    # (model, GPU GB, RAM GB): (plan at 832x480, plan at 1280x704)
    (T2V, 8, 32): ("none streamed streamed disk 512", "too large"),
    (T2V, 12, 32): ("none streamed on_demand disk None", "none streamed on_demand disk 512"),
    (T2V, 16, 64): ("fp8 streamed on_demand ram None", "fp8 streamed on_demand ram 512"),
    (T2V, 24, 64): ("fp8 on_demand on_demand ram None", "fp8 on_demand on_demand ram None"),
    (T2V, 24, 128): ("none streamed on_demand ram None", "none streamed on_demand ram None"),
    (T2V, 32, 128): ("none streamed on_demand ram None", "none streamed on_demand ram None"),
    (T2V, 48, 128): ("none on_demand on_demand ram None", "none on_demand on_demand ram None"),
    (T2V, 80, 256): ("none resident resident ram None", "none resident on_demand ram None"),
    (T2V, 141, 256): ("none resident resident ram None", "none resident resident ram None"),
    (I2V, 8, 32): ("none streamed streamed disk 512", "too large"),
    (I2V, 12, 32): ("none streamed on_demand disk None", "none streamed on_demand disk 512"),
    (I2V, 16, 64): ("fp8 streamed on_demand ram None", "fp8 streamed on_demand ram 512"),
    (I2V, 24, 64): ("fp8 on_demand on_demand ram None", "fp8 on_demand on_demand ram None"),
    (I2V, 32, 128): ("none streamed on_demand ram None", "none streamed on_demand ram None"),
    (I2V, 48, 128): ("none on_demand on_demand ram None", "none on_demand on_demand ram None"),
    (I2V, 80, 256): ("none resident resident ram None", "none resident on_demand ram None"),
    (I2V, 141, 256): ("none resident resident ram None", "none resident resident ram None"),
    (TI2V, 8, 32): ("none streamed streamed ram 256", "none streamed streamed ram 256"),
    (TI2V, 12, 32): ("none streamed on_demand ram 512", "none streamed on_demand ram 512"),
    (TI2V, 16, 64): ("none on_demand on_demand ram None", "none on_demand on_demand ram 512"),
    (TI2V, 24, 64): ("none resident on_demand ram None", "none on_demand on_demand ram None"),
    (TI2V, 32, 128): ("none resident on_demand ram None", "none on_demand on_demand ram None"),
    (TI2V, 48, 128): ("none resident resident ram None", "none resident resident ram None"),
    (TI2V, 80, 256): ("none resident resident ram None", "none resident resident ram None"),
    (TI2V, 141, 256): ("none resident resident ram None", "none resident resident ram None"),
}
"""Plans as: quantization, residence of the experts, residence of the text encoder, offload, tile."""


@pytest.mark.parametrize(("model_id", "gpu_gb", "ram_gb"), GOLDEN)
def test_plan_for_each_gpu_size(model_id: str, gpu_gb: int, ram_gb: int) -> None:
    def brief(height: int) -> str:
        try:
            plan = plan_for(model_id, height, gpu_gb, ram_gb)
        except OutOfMemory:
            return "too large"
        return f"{plan.quantization} {plan.experts} {plan.text_encoder} {plan.offload} {plan.vae_tile}"

    assert (brief(480), brief(704)) == GOLDEN[model_id, gpu_gb, ram_gb]


GOLDEN_OF_SEVERAL = {
    # (model, number of GPUs, GB of each GPU, RAM GB): (plan at 832x480, plan at 1280x704)
    (T2V, 2, 24, 128): ("1 none streamed on_demand ram", "1 none streamed on_demand ram"),
    (T2V, 4, 48, 512): ("4 none on_demand on_demand ram", "4 none on_demand on_demand ram"),
    (T2V, 8, 24, 256): ("2 none streamed on_demand ram", "2 none streamed on_demand ram"),
    (T2V, 8, 80, 1024): ("8 none resident resident ram", "8 none resident on_demand ram"),
    (T2V, 8, 80, 256): ("8 none resident resident ram", "5 none resident on_demand ram"),
    (T2V, 6, 141, 512): ("5 none resident resident ram", "5 none resident resident ram"),
    (I2V, 8, 80, 1024): ("8 none resident resident ram", "8 none resident on_demand ram"),
    (TI2V, 2, 24, 64): ("2 none resident on_demand ram", "2 none on_demand on_demand ram"),
    (TI2V, 4, 12, 128): ("4 none on_demand on_demand ram", "4 none streamed on_demand ram"),
    (TI2V, 8, 24, 512): ("8 none resident on_demand ram", "8 none on_demand on_demand ram"),
}
"""Plans as: number of GPUs that denoise together, then as in `GOLDEN`, without the tile."""


@pytest.mark.parametrize(("model_id", "gpus", "gpu_gb", "ram_gb"), GOLDEN_OF_SEVERAL)
def test_plan_for_several_gpus(model_id: str, gpus: int, gpu_gb: int, ram_gb: int) -> None:
    def brief(height: int) -> str:
        plan = plan_for(model_id, height, gpu_gb, ram_gb, gpus)
        return f"{plan.parallel_degree} {plan.quantization} {plan.experts} {plan.text_encoder} {plan.offload}"

    assert (brief(480), brief(704)) == GOLDEN_OF_SEVERAL[model_id, gpus, gpu_gb, ram_gb]


def test_gpus_divide_the_activations_but_each_process_takes_its_own_ram() -> None:
    footprint = meter(T2V).measure(shape_of(T2V, 704))
    one, eight = (estimate_memory(replace(base_plan("cuda"), parallel_degree=degree), footprint) for degree in (1, 8))

    weights = 2 * footprint.expert[Quantization.NONE].total
    activations = [need.stages["denoise"] - weights for need in (one, eight)]
    assert activations[1] < activations[0]
    assert 0 < footprint.embed_bytes < footprint.denoise_bytes / 2
    assert eight.stages["decode"] == one.stages["decode"]
    assert eight.ram_bytes - one.ram_bytes > 7 * footprint.loaded_expert_bytes


@pytest.mark.parametrize(
    ("gpus", "required", "degree", "reason"),
    [
        (8, None, 8, "8 of 8 GPUs share each pass, 4095 of 32760 tokens and 5 heads each"),
        (6, None, 5, "5 of 6 GPUs .*; the number must be a divisor of the 40 attention heads"),
        (8, 2, 2, "2 of 8 GPUs .*, as configured"),
        (8, 1, 1, "1 of 8 GPUs denoises alone, as configured"),
    ],
)
def test_plan_states_the_number_of_gpus_and_its_reason(
    gpus: int, required: int | None, degree: int, reason: str
) -> None:
    constraints = PlanConstraints(parallel_degree=required)
    several = Planner(load_catalogue()[T2V], machine(80, 1024, gpus), meter(T2V).measure, constraints)

    plan = several.choose(shape_of(T2V, 480))

    assert plan.parallel_degree == degree
    assert re.fullmatch(reason, plan.reasons["parallel_degree"])


def test_plan_reports_ram_as_the_reason_for_using_fewer_gpus() -> None:
    assert "4 would take" in plan_for(T2V, 704, 24, 256, gpus=8).reasons["parallel_degree"]


@pytest.mark.parametrize("required", [3, 16])
def test_impossible_number_of_gpus_is_rejected_with_the_possible_numbers(required: int) -> None:
    eight = Planner(
        load_catalogue()[T2V], machine(80, 1024, 8), meter(T2V).measure, PlanConstraints(parallel_degree=required)
    )

    with pytest.raises(
        ConfigurationError, match="divisor of the model's 40 attention heads, and at most the 8 GPUs"
    ) as caught:
        eight.choose(shape_of(T2V, 480))
    assert caught.value.suggestions[0] == "Use one of 1, 2, 4, 5, 8."


def test_every_choice_has_a_reason() -> None:
    reasons = plan_for(T2V, 704, 24, 64).reasons

    assert set(reasons) == {"quantization", "experts", "text_encoder", "vae", "vae_tile", "memory"}
    assert "of RAM" in reasons["quantization"]
    assert "exchanged at the boundary" in reasons["experts"]
    assert "offload" in plan_for(T2V, 480, 12, 32).reasons


def test_request_that_cannot_fit_is_rejected_with_a_size_that_fits() -> None:
    with pytest.raises(OutOfMemory, match=r"1280x704 with 81 frames does not fit: at least 9\.\d GB") as raised:
        plan_for(T2V, 704, 8, 32)

    assert raised.value.code == "vram_insufficient"
    assert raised.value.suggestions == ["1104x608 with 81 frames fits."]


def test_smaller_requests_reduce_pixels_before_frames() -> None:
    shapes = list(list_smaller(load_catalogue()[T2V], shape_of(T2V, 704)))

    assert [shape.num_frames for shape in shapes] == [81, 81, 81, 81, 81, 61, 41, 21]
    areas = [shape.width * shape.height for shape in shapes]
    assert areas == sorted(areas, reverse=True)


def test_too_little_ram_has_an_error_code_of_its_own() -> None:
    with pytest.raises(OutOfMemory, match="of RAM") as raised:
        plan_for(T2V, 480, 80, 8)

    assert raised.value.code == "ram_insufficient"


def test_no_smaller_request_is_measured_where_the_weights_alone_do_not_fit() -> None:
    measured: list[RequestShape] = []

    def measure(shape: RequestShape) -> Footprint:
        measured.append(shape)
        return meter(T2V).measure(shape)

    with pytest.raises(OutOfMemory) as raised:
        Planner(load_catalogue()[T2V], machine(80, 8), measure).choose(shape_of(T2V, 480))

    assert raised.value.suggestions == ["Use a machine with more memory, or a smaller model."]
    assert set(measured) == {shape_of(T2V, 480)}


def test_configured_quantization_is_used_even_if_unquantized_weights_fit() -> None:
    plan = planner(T2V, machine(80, 256), Quantization.FP8).choose(shape_of(T2V, 480))

    assert plan.quantization is Quantization.FP8
    assert plan.experts is Residence.RESIDENT
    assert plan.reasons["quantization"] == "as configured"


def ladder(
    start: OptimizationPlan, after: Callable[[OptimizationPlan], OptimizationPlan | None]
) -> list[OptimizationPlan]:
    rungs = [start]
    while (rung := after(rungs[-1])) is not None:
        rungs.append(rung)
    return rungs


@pytest.mark.parametrize("gpu_gb", [12, 24, 80])
def test_each_next_rung_takes_less_memory_and_fits(gpu_gb: int) -> None:
    hardware, footprint = machine(gpu_gb, 128), meter(T2V).measure(shape_of(T2V, 480))

    rungs = ladder(
        plan_for(T2V, 480, gpu_gb, 128),
        lambda plan: planner(T2V, hardware).next_rung(plan, shape_of(T2V, 480), ["denoise"]),
    )

    needs = [estimate_memory(rung, footprint).stages["denoise"] for rung in rungs]
    assert len(rungs) >= 3
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == len(needs)
    assert all(fits(rung, footprint, hardware) for rung in rungs)


def test_cpu_plan_keeps_all_weights_in_ram_and_next_rungs_take_less() -> None:
    cpu = replace(machine(8, 64), device="cpu", vram_total_bytes=0, vram_free_bytes=0)
    measure = FootprintMeter(architecture("tiny-t2v"), "cpu", base_plan("cpu").dtypes).measure
    shape = RequestShape(width=128, height=128, num_frames=17)

    tiny = Planner(load_catalogue()["tiny-t2v"], cpu, measure)
    plan = tiny.choose(shape)

    assert plan.describe() == []
    need = estimate_memory(plan, measure(shape))
    assert need.vram_bytes == 0
    for stage in ("encode_text", "denoise", "decode"):
        below = tiny.next_rung(plan, shape, [stage])
        assert below is not None
        assert estimate_memory(below, measure(shape)).stages[stage] < need.stages[stage]


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("quantization", [None, *Quantization])
def test_ladder_has_no_rung_twice(device: str, quantization: Quantization | None) -> None:
    rungs = list(list_rungs(device, quantization))

    assert len(rungs) == len({str(rung) for rung in rungs})
    assert rungs[0] == base_plan(device, quantization or Quantization.NONE)


def test_int8_takes_as_much_memory_as_fp8_and_is_never_streamed_from_the_disk() -> None:
    footprint: Footprint = meter(T2V).measure(shape_of(T2V, 480))
    int8, fp8 = (footprint.expert[kind].total for kind in (Quantization.INT8, Quantization.FP8))
    rungs = list(list_rungs("cuda", Quantization.INT8))

    assert int8 == pytest.approx(fp8, rel=0.01)
    assert {rung.experts for rung in rungs if rung.offload is Offload.DISK} == {Residence.ON_DEMAND}
    assert Residence.STREAMED in {rung.experts for rung in rungs if rung.offload is Offload.RAM}


@pytest.mark.parametrize(("kind", "gpu_gb"), [(StepCache.PAB, 48), (StepCache.TAYLORSEER, 141)])
def test_step_cache_that_does_not_fit_is_rejected_with_smaller_caches_as_suggestions(
    kind: StepCache, gpu_gb: int
) -> None:
    shape = replace(shape_of(T2V, 480), step_cache=kind)

    with pytest.raises(OutOfMemory) as raised:
        planner(T2V, machine(gpu_gb, 256)).choose(shape)

    assert raised.value.suggestions == [
        f"Omit the step cache {kind}, or use first_block or magcache, which take the least memory."
    ]
    assert planner(T2V, machine(gpu_gb, 256)).choose(replace(shape, step_cache=StepCache.FIRST_BLOCK))


def test_estimate_includes_the_loras_of_a_request() -> None:
    shape = shape_of(T2V, 480)
    without, with_loras = (
        estimate_memory(base_plan("cuda"), add_run(meter(T2V).measure(shape), replace(shape, lora_bytes=size)))
        for size in (0, GIB)
    )

    assert with_loras.stages["denoise"] == without.stages["denoise"] + round(1.06 * 2 * GIB)  # on both experts
    assert with_loras.stages["decode"] == without.stages["decode"]


def test_request_that_needs_more_memory_gets_a_new_plan() -> None:
    planned = planner(T2V, machine(80, 256))
    shape = shape_of(T2V, 480)
    plan = planned.choose(shape)

    assert planned.keep_or_choose(plan, replace(shape, step_cache=StepCache.FIRST_BLOCK, lora_bytes=8 * GIB)) != plan
    assert planned.keep_or_choose(plan, replace(shape, guided=False)) == plan


def tiny_planner(hardware: HardwareProfile, constraints: PlanConstraints | None = None) -> Planner:
    meter = FootprintMeter(architecture("tiny-t2v"), hardware.device, base_plan(hardware.device).dtypes)
    return Planner(load_catalogue()["tiny-t2v"], hardware, meter.measure, constraints)


def limited(**limits: object) -> RequestShape:
    return RequestShape(width=128, height=96, num_frames=17, limits=RequestLimits(**limits))  # type: ignore[arg-type]


def test_a_plan_keeps_the_limits_of_its_request() -> None:
    planner = tiny_planner(machine(80, 128))
    assert planner.choose(limited()).describe() == []
    assert planner.choose(limited(vae_tile_size=511)).vae_tile == 256
    assert planner.choose(limited(enable_offload=True)).is_offloaded
    for level, stored in (("none", Quantization.NONE), ("bf16", Quantization.NONE), ("int8", Quantization.INT8)):
        shape = limited(quantization_level=QuantizationLevel(level))
        assert planner.choose(shape).quantization is stored
    plain = planner.choose(limited())
    most = planner.estimate(plain, limited()).vram_bytes / GIB - 0.001
    smaller = planner.choose(limited(max_vram_usage_gb=most))
    assert planner.estimate(smaller, limited()).vram_bytes < planner.estimate(plain, limited()).vram_bytes
    with pytest.raises(OutOfMemory, match="does not fit"):
        planner.choose(limited(max_vram_usage_gb=0.5))


def test_a_plan_with_limits_is_not_kept_for_a_request_without_them() -> None:
    planner = tiny_planner(machine(80, 128))
    plain = planner.choose(limited())
    offloaded = planner.keep_or_choose(plain, limited(enable_offload=True))
    assert offloaded.is_offloaded
    assert planner.keep_or_choose(offloaded, limited(enable_offload=True)) == offloaded
    assert planner.keep_or_choose(offloaded, limited()) == plain


def test_a_request_cannot_override_the_quantization_of_the_configuration() -> None:
    planner = tiny_planner(machine(80, 128), PlanConstraints(quantization=Quantization.FP8))
    assert planner.choose(limited(quantization_level=QuantizationLevel.FP8)).quantization is Quantization.FP8
    with pytest.raises(InvalidRequest, match="quantization_level int8 is not served") as raised:
        planner.choose(limited(quantization_level=QuantizationLevel.INT8))
    assert raised.value.suggestions == ["Use one of: auto, fp8."]
