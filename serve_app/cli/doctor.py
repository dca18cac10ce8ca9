"""`wan22 doctor`: tries every way to run a model on this machine."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from serve_app.cli.database import DataDir, ServiceConfig, read_settings
from serve_app.cli.known_models import DEFAULT_CONFIG
from serve_app.cli.options import AsJson, Frames, ModelFolder, Size, find_in_catalogue
from serve_app.cli.terminal import output, print_json, reporting_errors, say, warn
from wan22_bridge.catalogue import SourceKind
from wan22_bridge.plans import GIB, HardwareProfile
from wan22_bridge.requests import GenerationRequest, resolve_params

if TYPE_CHECKING:
    from serve_app.settings import Settings
    from wan22_bridge.tuning.trials import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class _Machine:
    """Conditions of the machine that concern a service on it."""

    data_dir: str
    data_disk_free_bytes: int | None
    """None if the data folder does not exist yet."""
    min_free_bytes: int
    decoders_filter_system_calls: bool


def doctor(
    model: Annotated[
        str, typer.Option(help="Id of a text-to-video model in the catalogue; see `wan22 models list`.")
    ] = "tiny-t2v",
    path: ModelFolder = None,
    size: Size = None,
    frames: Frames = None,
    steps: Annotated[int, typer.Option(min=2, max=100, help="Denoising steps.")] = 12,
    as_json: AsJson = False,
    config: ServiceConfig = DEFAULT_CONFIG,
    data_dir: DataDir = None,
) -> None:
    """Try every way to run a model on this machine: whether it works, its speed, and how close its result is."""
    from wan22_bridge.fetching.downloads import ensure_model
    from wan22_bridge.planning.hardware import detect_hardware, use_all_cores
    from wan22_bridge.tuning.trials import run_trials

    spec = find_in_catalogue(model)
    if path is None and spec.source_kind is not SourceKind.BUILTIN:
        raise typer.BadParameter(f"{model} is not built in; give the folder of its files.", param_hint="--path")
    hardware = detect_hardware(Path.cwd())
    use_all_cores()
    outcomes = []
    with reporting_errors():
        machine = _check_machine(read_settings(config, data_dir))
    with tempfile.TemporaryDirectory(prefix="wan22-doctor-") as scratch, reporting_errors():
        request = GenerationRequest(
            prompt="a red circle moving right", model=model, resolution=size, num_frames=frames, steps=steps, seed=1
        )
        params = resolve_params(request, [spec])
        folder = path or ensure_model(spec, Path(scratch))
        if not as_json:
            _show_hardware(hardware)
            _show_machine(machine)
        for outcome in run_trials(spec, folder, params, Path(scratch), hardware.device):
            outcomes.append(outcome)
            if not as_json:
                say(f"{outcome.trial.name}: {outcome.error or 'works'}")
    if as_json:
        rows = [asdict(outcome) | {"trial": outcome.trial.name} for outcome in outcomes]
        print_json({"hardware": asdict(hardware), "machine": asdict(machine), "trials": rows})
    else:
        _show_outcomes(outcomes)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def _show_hardware(hardware: HardwareProfile) -> None:
    memory = f", {hardware.vram_free_bytes / GIB:.1f} of {hardware.vram_total_bytes / GIB:.1f} GB free"
    capability = ".".join(map(str, hardware.compute_capability or ()))
    gpu = f"{memory}, compute capability {capability}" if capability else ""
    count = f"{hardware.gpu_count} GPUs, the first: " if hardware.gpu_count > 1 else ""
    say(
        f"{count}{hardware.name}{gpu}; "
        f"{hardware.ram_available_bytes / GIB:.1f} of {hardware.ram_total_bytes / GIB:.1f} GB of RAM available; "
        f"{hardware.disk_free_bytes / GIB:.0f} GB of disk free"
    )


def _check_machine(settings: "Settings") -> _Machine:
    from deployments.storage.disk import DiskSpace
    from wan22_bridge.media.sandbox import filters_system_calls

    space = DiskSpace(settings.data_dir, settings.retention.min_free_bytes)
    return _Machine(
        data_dir=str(settings.data_dir),
        data_disk_free_bytes=space.free_bytes,
        min_free_bytes=settings.retention.min_free_bytes,
        decoders_filter_system_calls=filters_system_calls(),
    )


def _show_machine(machine: _Machine) -> None:
    free_bytes, needed = machine.data_disk_free_bytes, f"{machine.min_free_bytes / 1e9:g} GB"
    if free_bytes is None:
        say(f"Data folder: {machine.data_dir} does not exist yet.")
    elif free_bytes < machine.min_free_bytes:
        warn(
            f"Data folder: new jobs are rejected, because {free_bytes / 1e9:.2f} GB are free on the disk of "
            f"{machine.data_dir}, and {needed} are needed. Free space, or lower retention.min_free_gb."
        )
    else:
        say(f"Data folder: {free_bytes / 1e9:.0f} GB free; new jobs need {needed}.")
    if machine.decoders_filter_system_calls:
        say("Decoders of images and videos: system calls are filtered.")
    else:
        warn(
            "Decoders of images and videos: this kernel has no seccomp for this architecture, so that only limits of "
            "resources confine them. Accept files only from people whom you trust."
        )


def _show_outcomes(outcomes: "list[Outcome]") -> None:
    table = Table(
        Column("trial", no_wrap=True),
        "seconds per step",
        "seconds to decode",
        "peak GPU memory",
        "PSNR of latents",
        "PSNR of frames",
        box=None,
    )
    for outcome in outcomes:
        if outcome.error:
            table.add_row(outcome.trial.name, "failed")
            continue
        peak = f"{outcome.peak_vram_bytes / GIB:.2f} GB" if outcome.peak_vram_bytes else "-"
        likeness = [
            "identical" if value == float("inf") else f"{value:.1f} dB"
            for value in (outcome.latents_psnr_db, outcome.frames_psnr_db)
        ]
        table.add_row(
            outcome.trial.name, f"{outcome.seconds_per_step:.4f}", f"{outcome.decode_seconds:.3f}", peak, *likeness
        )
    output.print(table)
