"""Parts of the GPU benchmark about memory: all plans, loading, swapping, streaming, and cards made small."""

import shutil
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.support.gpu_setting import Setting, fill, make_expert, make_pass
from benchmarks.support.page_cache import evict
from benchmarks.support.reporting import Row
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import ModelSpec, load_catalogue
from wan22_bridge.errors import Wan22Error
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loading import load_component
from wan22_bridge.models.residence import Residences, free_memory
from wan22_bridge.planning.estimates import CUDA_CONTEXT_BYTES
from wan22_bridge.planning.hardware import detect_hardware
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import GIB, Residence
from wan22_bridge.requests import GenerationRequest, resolve_params
from wan22_bridge.tuning.trials import run_trials
from wan22_bridge.types import GenerationResult, Progress

_EXPERT_GB = 28.6
_FEW_LAYERS = 8
_CARDS_GB = (8, 12, 16, 24)


def try_all_plans(setting: Setting) -> None:
    """Runs a tiny model in every way, which finds what does not work at all."""
    spec = load_catalogue()["tiny-t2v"]
    folder = ensure_tiny_model(setting.folder, spec.source_ref)
    request = GenerationRequest(
        prompt="a red circle", model=spec.id, resolution="64x64" if setting.tiny else "128x128", steps=8, seed=1
    )
    if setting.tiny:
        request = replace(request, num_frames=5, steps=2)
    for outcome in run_trials(spec, folder, resolve_params(request, [spec]), setting.folder, setting.device):
        name = f"plan: {outcome.trial.name}"
        if outcome.error:
            setting.add(Row(f"{name}: failed, {outcome.error}", 1, "", 0))
            continue
        setting.add(Row(f"{name}: a step", 1000 * outcome.seconds_per_step, "ms"))
        if outcome.latents_psnr_db != float("inf"):
            setting.add(Row(f"{name}: likeness to plain", outcome.latents_psnr_db, "dB", least=25))


def measure_loading(setting: Setting) -> None:
    """Measures the way of an expert from the disk to the device, and the bandwidth of the bus."""
    folder = setting.folder / "transformer"
    expert = make_expert(setting, layers=_FEW_LAYERS)
    size = sum(parameter.nbytes for parameter in expert.parameters()) / 1e9
    expert.save_pretrained(folder)
    del expert
    files = sorted(folder.glob("*.safetensors"))

    def load_today() -> None:
        plan = base_plan(setting.device)
        load_component("transformer", setting.folder, plan, exact=True).to(setting.device)

    def load_directly() -> None:
        for file in files:
            load_file(file, device=setting.device)

    for name, load in {"through RAM, as loading does": load_today, "straight to the device": load_directly}.items():
        for state in ("from the disk", "from the page cache"):
            if state == "from the disk":
                for file in files:
                    evict(file)
            seconds = setting.first_seconds(load)
            free_memory(torch.device(setting.device))
            setting.add(Row(f"loading {size:.1f} GB {name}, {state}", seconds, "s"))
            setting.add(Row(f"loading {name}, {state}: speed", size / seconds, "GB/s"))
    if setting.device == "cuda":
        _measure_bus(setting)


def _measure_bus(setting: Setting) -> None:
    on_gpu = torch.empty(GIB, dtype=torch.uint8, device="cuda")
    for name, pinned in {"pinned": True, "pageable": False}.items():
        in_ram = torch.zeros(GIB, dtype=torch.uint8, pin_memory=pinned)
        there = setting.seconds(lambda in_ram=in_ram: on_gpu.copy_(in_ram, non_blocking=True))  # type: ignore[misc]
        back = setting.seconds(lambda in_ram=in_ram: in_ram.copy_(on_gpu))  # type: ignore[misc]
        setting.add(
            Row(f"{name} RAM to GPU", GIB / 1e9 / there, "GB/s"),
            Row(f"GPU to {name} RAM", GIB / 1e9 / back, "GB/s"),
            Row(
                f"an expert of {_EXPERT_GB} GB from {name} RAM, computed",
                _EXPERT_GB / (GIB / 1e9 / there),
                "s",
                0.8 if pinned else None,
            ),
        )


def measure_swapping(setting: Setting) -> None:
    """Measures `bring`, which runs before each pass, and an expert whose blocks are streamed."""
    spec = load_catalogue()["tiny-t2v"]
    on_demand = replace(
        base_plan(setting.device),
        experts=Residence.ON_DEMAND,
        text_encoder=Residence.ON_DEMAND,
        vae=Residence.ON_DEMAND,
    )
    model = LoadedModel(spec, ensure_tiny_model(setting.folder, spec.source_ref), on_demand)
    model.bring("transformer")
    seconds = setting.seconds(lambda: model.bring("transformer"), 20)
    limit = 1.0 if setting.device == "cuda" else None
    setting.add(Row("bring, of an expert that is on the device already", 1000 * seconds, "ms", limit))
    model.close()

    shape = setting.shape(832, 480, 81)
    expert = make_expert(setting, layers=_FEW_LAYERS)
    weights = sum(parameter.nbytes for parameter in expert.parameters())
    resident = setting.seconds(make_pass(setting, expert, shape))
    residences = Residences(replace(on_demand, experts=Residence.STREAMED), setting.folder)
    residences.place("transformer", expert.to("cpu"))
    streamed = setting.seconds(make_pass(setting, expert, shape))
    setting.add(
        Row(f"streamed blocks, {len(expert.blocks)} layers: a pass", streamed, "s"),
        Row("streamed / resident", streamed / resident, "×", 1.1 if setting.device == "cuda" else None),
    )
    if setting.device == "cuda":
        pinned = torch.cuda.memory.host_memory_stats()["allocated_bytes.current"]
        setting.add(Row("pinned memory / streamed weights", pinned / weights, "×", 1.1))


def try_small_cards(setting: Setting) -> None:
    """Generates with TI2V-5B on cards made small: whether the planner's plan runs, within its estimate."""
    spec = load_catalogue()["tiny-ti2v" if setting.tiny else "wan2.2-ti2v-5b"]
    folder = _write_model(setting)
    total = torch.cuda.get_device_properties(0).total_memory if setting.device == "cuda" else 0
    for card in _CARDS_GB[:1] if setting.tiny else _CARDS_GB:
        name = f"TI2V on {card} GB" if total else "TI2V on the CPU"
        try:
            _try_card(setting, spec, folder, name, card, total)
        except (Wan22Error, RuntimeError) as exc:  # the other cards are tried all the same
            setting.add(Row(f"{name}: failed: {exc}".partition("\n")[0], 0.0, "", least=1))


def _try_card(setting: Setting, spec: ModelSpec, folder: Path, name: str, card: int, total: int) -> None:
    hardware = detect_hardware(setting.folder)
    if total:
        usable = int(0.97 * card * GIB)
        torch.cuda.set_per_process_memory_fraction((usable - CUDA_CONTEXT_BYTES) / total)
        hardware = replace(hardware, vram_total_bytes=card * GIB, vram_free_bytes=usable)
    size = "64x64" if setting.tiny else "1280x704"
    request = GenerationRequest(
        prompt="a red circle", model=spec.id, resolution=size, num_frames=5 if setting.tiny else 17, steps=2, seed=1
    )
    bridge = ModelIntegrationBridge(hardware=hardware, scratch=setting.folder / "scratch")
    params = resolve_params(request, [spec])
    model = bridge.load(spec, folder, params)
    planned = ", ".join(model.plan.describe()) or "plain"
    try:
        result = _finish(bridge.generate(model, params, setting.folder / f"video-{card}"))
    finally:
        model.close()
    ran = ", ".join(result.optimizations_applied) or "plain"
    setting.add(Row(f"{name}: planned {planned}", result.generation_time_seconds, "s"))
    setting.add(Row(f"{name}: ran as planned (1) or as {ran}", float(ran == planned), "", least=1))
    if total:
        limit = (usable - CUDA_CONTEXT_BYTES) / 1e6
        setting.add(Row(f"{name}: measured peak", result.peak_vram_usage_mb, "MB", limit))


def _write_model(setting: Setting) -> Path:
    """Writes TI2V-5B with random weights. The tokenizer is that of the tiny model."""
    tiny = ensure_tiny_model(setting.folder, "ti2v")
    if setting.tiny:
        return tiny
    folder, built = setting.folder / "ti2v-random", setting.architecture("ti2v")
    shutil.copytree(tiny, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    parts = {
        "transformer": make_expert(setting, "ti2v"),
        "text_encoder": fill(built.build_text_encoder(), setting.device, setting.dtype),
        "vae": fill(built.build_vae(), setting.device, torch.float32),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    parts.clear()
    free_memory(torch.device(setting.device))
    return folder


def _finish(run: Generator[Progress, None, GenerationResult]) -> GenerationResult:
    while True:
        try:
            next(run)
        except StopIteration as end:
            result: GenerationResult = end.value
            return result
