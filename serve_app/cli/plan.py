"""`wan22 plan`: how a model would be run on a machine, before a byte of it is fetched."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from wan22_bridge.catalogue import ImageInput, ModelSpec, load_catalogue
from wan22_bridge.errors import Wan22Error
from wan22_bridge.plans import GIB, HardwareProfile, OptimizationPlan, PlanConstraints, Quantization, RequestShape
from wan22_bridge.sizing import parse_size, snap_frames, snap_size

if TYPE_CHECKING:
    from wan22_bridge.planning.footprint import FootprintMeter

_USABLE = 0.97
"""Of a card's memory: the rest is the driver's, and a little is always taken."""

output = Console()


def plan(
    model: Annotated[str, typer.Option(help="A model's id in the catalogue.")],
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels; by default the model's own.")] = None,
    frames: Annotated[int | None, typer.Option(help="4k+1; by default the model's own.")] = None,
    gpu: Annotated[float | None, typer.Option(min=1, help="GB of a GPU; by default this machine as it is.")] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="How many such GPUs; by default one, or this machine's.")
    ] = None,
    ram: Annotated[float | None, typer.Option(min=1, help="GB of RAM; by default this machine's.")] = None,
    quantization: Annotated[Quantization | None, typer.Option(help="The only one to use.")] = None,
    path: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="The model's own folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Tell how a model would be run on a machine: what goes where, how much memory it takes, and why."""
    from wan22_bridge.models.architecture import find_architecture
    from wan22_bridge.planning.footprint import FootprintMeter
    from wan22_bridge.planning.hardware import detect_hardware
    from wan22_bridge.planning.planner import Planner, resolve_quantization
    from wan22_bridge.planning.rungs import base_plan

    try:
        spec, shape = _parse(model, size, frames)
        hardware = _suppose(detect_hardware(Path.cwd()), gpu, gpus, ram)
        architecture = find_architecture(spec, path)
        meter = FootprintMeter(architecture, hardware.device, base_plan(hardware.device).dtypes)
        constraints = resolve_quantization(
            PlanConstraints(quantization=quantization), spec, in_gguf=architecture.gguf_bytes is not None
        )
        chosen = Planner(spec, hardware, meter.measure, constraints).choose(shape)
    except Wan22Error as exc:
        Console(stderr=True).print(f"[red]Error:[/red] {exc.message}", *exc.suggestions, sep="\n  ", highlight=False)
        raise typer.Exit(2 if exc.category == "invalid_request" else 1) from None
    _show(chosen, shape, hardware, meter, as_json)


def _parse(model: str, size: str | None, frames: int | None) -> tuple[ModelSpec, RequestShape]:
    catalogue = load_catalogue()
    if model not in catalogue:
        raise typer.BadParameter(f"there is no model {model!r}; the catalogue has {', '.join(catalogue)}.")
    spec = catalogue[model]
    width, height = snap_size(parse_size(size, param="--size"), spec, param="--size") if size else spec.size
    num_frames = snap_frames(frames, spec, fps=spec.fps, param="--frames") if frames is not None else spec.num_frames
    return spec, RequestShape(
        width=width, height=height, num_frames=num_frames, image=spec.image is not ImageInput.NONE
    )


def _suppose(found: HardwareProfile, gpu: float | None, gpus: int | None, ram: float | None) -> HardwareProfile:
    """The machine that is asked about in place of the one that is here."""
    if ram is not None:
        found = replace(found, ram_total_bytes=int(ram * GIB), ram_available_bytes=int(ram * GIB * 0.9))
    if gpu is None:
        if gpus is not None and found.device == "cpu":
            raise typer.BadParameter(
                "there is no GPU here: give the GB of one with --gpu as well.", param_hint="--gpus"
            )
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
        json.dump({"plan": chosen.to_dict(), "estimate": asdict(need)}, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    output.print(
        f"{shape.width}x{shape.height}, {shape.num_frames} frames ({footprint.tokens} tokens) on {hardware.name}",
        highlight=False,
    )
    table = Table("", "", "why", box=None)
    values = chosen.to_dict() | {"vae_tile": f"{chosen.vae_tile} px" if chosen.vae_tile else "none"}
    for name, reason in chosen.reasons.items():
        if name in values:
            table.add_row(name.replace("_", " "), str(values[name]).replace("_", " "), reason)
    table.add_row("dtypes", ", ".join(f"{name} {dtype}" for name, dtype in chosen.dtypes.items()), "")
    output.print(table)
    stages = Table("stage", "GPU memory at its peak", box=None)
    for stage, size in need.stages.items():
        stages.add_row(stage.replace("_", " "), gb(size))
    if need.vram_bytes:
        output.print(stages)
    output.print(chosen.reasons["memory"][0].upper() + chosen.reasons["memory"][1:] + ".", highlight=False)
