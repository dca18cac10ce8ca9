"""`wan22 plan`: plans how a model runs on a machine, without downloading the model."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from serve_app.cli.options import AsJson, CatalogueModel, Frames, ModelFolder, Size, find_in_catalogue
from serve_app.cli.terminal import output, print_json, reporting_errors, say
from wan22_bridge.catalogue import ImageInput, ModelSpec
from wan22_bridge.plans import GIB, HardwareProfile, OptimizationPlan, PlanConstraints, Quantization, RequestShape
from wan22_bridge.sizing import parse_size, snap_frames, snap_size

if TYPE_CHECKING:
    from wan22_bridge.planning.footprint import FootprintMeter

_USABLE = 0.97
"""Share of a GPU's memory that is free when nothing runs. The driver takes the rest."""


def plan(
    model: CatalogueModel,
    size: Size = None,
    frames: Frames = None,
    gpu: Annotated[
        float | None, typer.Option(min=1, help="Memory of a GPU in GB. Default: this machine's hardware.")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="Number of GPUs. Default: one with --gpu, otherwise this machine's.")
    ] = None,
    ram: Annotated[float | None, typer.Option(min=1, help="RAM in GB. Default: this machine's.")] = None,
    quantization: Annotated[
        Quantization | None, typer.Option(help="The only quantization to consider. Default: any.")
    ] = None,
    path: ModelFolder = None,
    as_json: AsJson = False,
) -> None:
    """Show the memory plan of a model on a machine: where each component is, its memory, and the reasons."""
    from wan22_bridge.models.architecture import find_architecture
    from wan22_bridge.planning.footprint import FootprintMeter
    from wan22_bridge.planning.hardware import detect_hardware
    from wan22_bridge.planning.planner import Planner, resolve_quantization
    from wan22_bridge.planning.rungs import base_plan

    with reporting_errors():
        spec, shape = _parse(model, size, frames)
        hardware = _suppose(detect_hardware(Path.cwd()), gpu, gpus, ram)
        architecture = find_architecture(spec, path)
        meter = FootprintMeter(architecture, hardware.device, base_plan(hardware.device).dtypes)
        constraints = resolve_quantization(
            PlanConstraints(quantization=quantization), spec, in_gguf=architecture.gguf_bytes is not None
        )
        chosen = Planner(spec, hardware, meter.measure, constraints).choose(shape)
    _show(chosen, shape, hardware, meter, as_json)


def _parse(model: str, size: str | None, frames: int | None) -> tuple[ModelSpec, RequestShape]:
    spec = find_in_catalogue(model)
    width, height = snap_size(parse_size(size, param="--size"), spec, param="--size") if size else spec.size
    num_frames = snap_frames(frames, spec, fps=spec.fps, param="--frames") if frames is not None else spec.num_frames
    return spec, RequestShape(
        width=width, height=height, num_frames=num_frames, image=spec.image is not ImageInput.NONE
    )


def _suppose(found: HardwareProfile, gpu: float | None, gpus: int | None, ram: float | None) -> HardwareProfile:
    """Returns the hardware to plan for: this machine's, with the values that the user gave in its place."""
    if ram is not None:
        found = replace(found, ram_total_bytes=int(ram * GIB), ram_available_bytes=int(ram * GIB * 0.9))
    if gpu is None:
        if gpus is not None and found.device == "cpu":
            raise typer.BadParameter("this machine has no GPU; give the memory of one with --gpu.", param_hint="--gpus")
        return found if gpus is None else replace(found, gpu_count=gpus)
    return replace(
        found,
        device="cuda",
        name=f"a GPU of {gpu:g} GB" if gpus in (None, 1) else f"{gpus} GPUs of {gpu:g} GB",
        gpu_count=gpus or 1,
        vram_total_bytes=int(gpu * GIB),
        vram_free_bytes=int(gpu * GIB * _USABLE),
    )


def _show(
    chosen: OptimizationPlan, shape: RequestShape, hardware: HardwareProfile, meter: "FootprintMeter", as_json: bool
) -> None:
    from wan22_bridge.planning.estimates import estimate_memory
    from wan22_bridge.planning.explanations import gb

    footprint = meter.measure(shape)
    need = estimate_memory(chosen, footprint)
    if as_json:
        print_json({"plan": chosen.to_dict(), "estimate": asdict(need)})
        return
    say(f"{shape.width}x{shape.height}, {shape.num_frames} frames ({footprint.tokens} tokens) on {hardware.name}")
    table = Table("option", "value", "why", box=None)
    values = chosen.to_dict() | {"vae_tile": f"{chosen.vae_tile} px" if chosen.vae_tile else "none"}
    for name, reason in chosen.reasons.items():
        if name in values:
            table.add_row(name.replace("_", " "), str(values[name]).replace("_", " "), reason)
    table.add_row("dtypes", ", ".join(f"{name} {dtype}" for name, dtype in chosen.dtypes.items()), "")
    output.print(table)
    stages = Table("stage", "peak GPU memory", box=None)
    for stage, size in need.stages.items():
        stages.add_row(stage.replace("_", " "), gb(size))
    if need.vram_bytes:
        output.print(stages)
    say(chosen.reasons["memory"][0].upper() + chosen.reasons["memory"][1:] + ".")
