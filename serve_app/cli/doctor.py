"""`wan22 doctor`: what this machine has, and every way to run a model tried on it."""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from wan22_bridge.catalogue import SourceKind, load_catalogue
from wan22_bridge.errors import Wan22Error
from wan22_bridge.plans import GIB, HardwareProfile
from wan22_bridge.requests import GenerationRequest, resolve_params

if TYPE_CHECKING:
    from wan22_bridge.tuning.trials import Outcome

output = Console()


def doctor(
    model: Annotated[str, typer.Option(help="A text-to-video model's id in the catalogue.")] = "tiny-t2v",
    path: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="The model's own folder.")] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="4k+1.")] = None,
    steps: Annotated[int, typer.Option(min=2, max=100)] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """Try every way to run a model on this machine: does it work, how fast is a step, how alike is the result."""
    from wan22_bridge.fetching.downloads import ensure_model
    from wan22_bridge.planning.hardware import detect_hardware, use_all_cores
    from wan22_bridge.tuning.trials import run_trials

    catalogue = load_catalogue()
    if model not in catalogue:
        raise typer.BadParameter(f"there is no model {model!r}; the catalogue has {', '.join(catalogue)}.")
    spec = catalogue[model]
    if path is None and spec.source_kind is not SourceKind.BUILTIN:
        raise typer.BadParameter(f"{model} is not built in: give its folder with --path.")
    hardware = detect_hardware(Path.cwd())
    use_all_cores()
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="wan22-doctor-") as scratch:
        try:
            request = GenerationRequest(
                prompt="a red circle moving right", model=model, resolution=size, num_frames=frames, steps=steps, seed=1
            )
            params = resolve_params(request, [spec])
            folder = path or ensure_model(spec, Path(scratch))
            if not as_json:
                _show_hardware(hardware)
            for outcome in run_trials(spec, folder, params, Path(scratch), hardware.device):
                outcomes.append(outcome)
                if not as_json:
                    output.print(f"{outcome.trial.name}: {outcome.error or 'works'}", highlight=False)
        except Wan22Error as exc:
            Console(stderr=True).print(f"[red]Error:[/red] {exc.message}", *exc.suggestions, sep="\n  ")
            raise typer.Exit(2) from None
    if as_json:
        rows = [asdict(outcome) | {"trial": outcome.trial.name} for outcome in outcomes]
        json.dump({"hardware": asdict(hardware), "trials": rows}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _show_outcomes(outcomes)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def _show_hardware(hardware: HardwareProfile) -> None:
    gpu = f", {hardware.vram_free_bytes / GIB:.1f} of {hardware.vram_total_bytes / GIB:.1f} GB free"
    capability = ".".join(map(str, hardware.compute_capability or ()))
    several = f"{hardware.gpu_count} GPUs, the first: " if hardware.gpu_count > 1 else ""
    output.print(
        f"{several}{hardware.name}{gpu + f', compute capability {capability}' if capability else ''}; "
        f"{hardware.ram_available_bytes / GIB:.1f} of {hardware.ram_total_bytes / GIB:.1f} GB of RAM available; "
        f"{hardware.disk_free_bytes / GIB:.0f} GB of disk free",
        highlight=False,
    )


def _show_outcomes(outcomes: "list[Outcome]") -> None:
    table = Table(
        Column("", no_wrap=True), "s a step", "s to decode", "GPU peak", "PSNR latents", "PSNR frames", box=None
    )
    for outcome in outcomes:
        if outcome.error:
            table.add_row(outcome.trial.name, "failed")
            continue
        peak = f"{outcome.peak_vram_bytes / GIB:.2f} GB" if outcome.peak_vram_bytes else "-"
        likeness = [
            "same bits" if value == float("inf") else f"{value:.1f} dB"
            for value in (outcome.latents_psnr_db, outcome.frames_psnr_db)
        ]
        table.add_row(
            outcome.trial.name, f"{outcome.seconds_per_step:.4f}", f"{outcome.decode_seconds:.3f}", peak, *likeness
        )
    output.print(table)
