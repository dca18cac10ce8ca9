"""Commands for the files of downloaded models: pull, verify, remove and convert."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from serve_app.cli.database import record_action
from serve_app.cli.known_models import DEFAULT_CONFIG, Config, Model, ModelsDir, measure_size, read_models
from serve_app.cli.terminal import errors, fail, output, printable, reporting_errors, say, warn

if TYPE_CHECKING:
    from wan22_bridge.fetching import FetchProgress


def pull(
    model: Model,
    config: Config = DEFAULT_CONFIG,
    models_dir: ModelsDir = None,
    bf16: Annotated[
        bool | None, typer.Option(help="Cast fp32 weights to bf16 while downloading. Default: as configured.")
    ] = None,
) -> None:
    """Download the missing files of a model. Ctrl-C stops the download, and the next pull resumes it."""
    from wan22_bridge.fetching import FetchProgress
    from wan22_bridge.fetching.downloads import ensure_model

    with _reporting_stops("The next pull resumes from the downloaded part."):
        models = read_models(config, models_dir)
        spec = models.find(model)
        progress = FetchProgress()
        with _showing(f"downloading {spec.id}", progress):
            found = ensure_model(spec, models.folder, progress, cast=models.cast_to_bf16 if bf16 is None else bf16)
        record_action(config, "pull_model", spec.id)
    say(f"{spec.id} is in {found}")


def verify(
    model: Model,
    config: Config = DEFAULT_CONFIG,
    models_dir: ModelsDir = None,
    repair: Annotated[bool, typer.Option("--repair", help="Download the missing and corrupted files again.")] = False,
) -> None:
    """Check the size and the hash of every file of a downloaded model. Ctrl-C stops the check.

    A service repairs a model with corrupted files before it uses the model again.
    """
    from wan22_bridge.fetching import FetchProgress, FileState, check_files, read_manifest, record_damage
    from wan22_bridge.fetching.downloads import ensure_model, read_model_manifest

    with _reporting_stops():
        models = read_models(config, models_dir)
        spec = models.find_fetched(model)
        folder = models.folder / spec.id
        manifest = read_manifest(folder)
        if manifest is None:
            fail(f"{spec.id} is not on this machine.", suggestions=[f"Download it with `wan22 models pull {spec.id}`."])
        if read_model_manifest(spec, models.folder) is None:
            fail(
                f"{spec.id} is on this machine at the commit {manifest.commit}, but the config or the lock file has "
                "other files.",
                suggestions=[f"Download them with `wan22 models pull {spec.id}`."],
            )
        progress = FetchProgress()
        progress.total_bytes = measure_size(folder)
        with _showing(f"checking {spec.id}", progress):
            states = check_files(folder, manifest, content=True, report=progress.add)
        record_damage(folder, states)
        wrong = {path: state for path, state in states.items() if state is not FileState.GOOD}
        for path, state in wrong.items():
            say(f"{path}: {state.value.replace('_', ' ')}")
        if wrong and not repair:
            fail(
                f"{len(wrong)} of {len(states)} files of {spec.id} are missing or corrupted.",
                suggestions=[f"Download them again with `wan22 models verify --repair {spec.id}`."],
            )
        if wrong:
            progress = FetchProgress()
            with _showing(f"downloading {spec.id}", progress):
                ensure_model(spec, models.folder, progress, cast=models.cast_to_bf16, check_content=True)
            record_action(config, "repair_model", spec.id)
    say(f"{spec.id}: all {len(states)} files are correct.")


def remove(
    model: Model,
    config: Config = DEFAULT_CONFIG,
    models_dir: ModelsDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
) -> None:
    """Remove the files of a downloaded model. A running service keeps a loaded model until it unloads it."""
    from wan22_bridge.fetching.downloads import remove_model

    with _reporting_stops():
        models = read_models(config, models_dir)
        spec = models.find_fetched(model)
        folder = models.folder / spec.id
        size = measure_size(folder)
        if not size:
            fail(f"{spec.id} is not on this machine.")
        if not yes:
            question = f"Remove {size / 1e9:.1f} GB of {spec.id} from {folder}?"
            typer.confirm(printable(question), abort=True)
        removed = remove_model(spec, models.folder)
        record_action(config, "remove_model", spec.id)
    say(f"{spec.id}: removed {removed / 1e9:.1f} GB.")


def convert(model: Model, config: Config = DEFAULT_CONFIG, models_dir: ModelsDir = None) -> None:
    """Cast the fp32 weights of a downloaded model to bf16, which halves their size. Jobs compute in bf16 anyway."""
    from wan22_bridge.fetching import FetchProgress
    from wan22_bridge.fetching.downloads import ensure_model, find_model

    with _reporting_stops():
        models = read_models(config, models_dir)
        spec = models.find_fetched(model)
        if find_model(spec, models.folder) is None:
            fail(
                f"{spec.id} is not complete on this machine.",
                suggestions=[f"Download and cast it with `wan22 models pull --bf16 {spec.id}`."],
            )
        before = measure_size(models.folder / spec.id)
        with output.status(f"Casting {spec.id}"):
            ensure_model(spec, models.folder, FetchProgress(), cast=True)
        after = measure_size(models.folder / spec.id)
    say(f"{spec.id}: {before / 1e9:.1f} GB before, {after / 1e9:.1f} GB after.")


@contextmanager
def _showing(description: str, progress: "FetchProgress") -> Iterator[None]:
    """Shows a progress bar during the context. Ctrl-C stops the fetch before it leaves the context."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    ended = threading.Event()
    with Progress(*columns, TimeRemainingColumn(), console=errors) as bar:
        task = bar.add_task(printable(description), total=None)

        def follow() -> None:
            while not ended.wait(0.2):
                bar.update(task, completed=progress.done_bytes, total=progress.total_bytes)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        except KeyboardInterrupt:
            progress.stop()
            raise
        finally:
            ended.set()
            thread.join()
            bar.update(task, completed=progress.done_bytes, total=progress.total_bytes)


@contextmanager
def _reporting_stops(note: str = "") -> Iterator[None]:
    """Ends the command with the message of an error, or on Ctrl-C with a note for the user."""
    try:
        with reporting_errors():
            yield
    except KeyboardInterrupt:
        warn(f"Stopped. {note}".rstrip())
        raise typer.Exit(1) from None
