"""`wan22 models`: the files of models, fetched and looked after from a terminal, with the service running or not."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from wan22_bridge.errors import Wan22Error

if TYPE_CHECKING:
    from wan22_bridge.catalogue import ModelSpec
    from wan22_bridge.fetching import Fetching

app = typer.Typer(no_args_is_help=True, help="The models, and their files: fetched, checked, shrunk, removed.")
output, errors = Console(), Console(stderr=True)

Config = Annotated[Path, typer.Option(help="The Serve config: which models there are beside the catalogue's.")]
ModelsDir = Annotated[Path | None, typer.Option(help="Where models are kept; by default where the config says.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Model = Annotated[str, typer.Argument(help="A model's id: `wan22 models list` lists them.")]
_CONFIG = Path("serve_config.yaml")


@app.command("list")
def list_models(config: Config = _CONFIG, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the models that are known, and whether their files are on this machine."""
    from wan22_bridge.fetching.downloads import find_model

    with _telling_errors():
        specs, folder, served, _ = _read(config, models_dir)
        rows = []
        for spec in specs.values():
            found = find_model(spec, folder) if spec.is_fetched or spec.path else folder
            size = _size(found) if found is not None and found != folder else 0
            source = str(spec.path or f"{spec.source_kind}: {spec.source_ref}")
            rows.append(
                {
                    "id": spec.id,
                    "type": spec.type.value,
                    "source": source,
                    "available": found is not None,
                    "size_gb": round(size / 1e9, 3),
                    "served": spec.id in served,
                }
            )
    if as_json:
        json.dump(rows, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    table = Table("id", "type", "source", "on this machine", "served", box=None)
    for row in rows:
        there = f"{row['size_gb']:.1f} GB" if row["size_gb"] else "yes"
        table.add_row(
            str(row["id"]),
            str(row["type"]),
            escape(str(row["source"])),
            there if row["available"] else "no",
            "yes" if row["served"] else "",
        )
    output.print(table)


@app.command()
def pull(
    model: Model,
    config: Config = _CONFIG,
    models_dir: ModelsDir = None,
    bf16: Annotated[bool | None, typer.Option(help="Cast fp32 weights as they come; by default as configured.")] = None,
) -> None:
    """Fetch what is missing of a model. Ctrl-C stops it; the next time it goes on from there."""
    from wan22_bridge.fetching import Fetching
    from wan22_bridge.fetching.downloads import ensure_model

    with _telling_errors():
        spec, folder, cast = _choose(model, config, models_dir)
        progress = Fetching()
        with _showing(spec, progress):
            found = ensure_model(spec, folder, progress, cast=cast if bf16 is None else bf16)
    output.print(f"{spec.id} is in {escape(str(found))}", highlight=False, soft_wrap=True)


@app.command()
def verify(
    model: Model,
    config: Config = _CONFIG,
    models_dir: ModelsDir = None,
    repair: Annotated[bool, typer.Option("--repair", help="Fetch again what is wrong, and that alone.")] = False,
) -> None:
    """Read and hash each file of a model that was fetched."""
    from wan22_bridge.fetching import Fetching, FileState, check_files, read_manifest
    from wan22_bridge.fetching.downloads import ensure_model

    with _telling_errors():
        spec, folder, cast = _choose_fetched(model, config, models_dir)
        manifest = read_manifest(folder / spec.id)
        if manifest is None:
            _fail(f"{spec.id} is not on this machine: `wan22 models pull {spec.id}` fetches it.")
        progress = Fetching()
        progress.total_bytes = _size(folder / spec.id)
        with _showing(spec, progress, what="checking"):
            states = check_files(folder / spec.id, manifest, content=True, tell=progress.tell)
        wrong = {path: state for path, state in states.items() if state is not FileState.GOOD}
        for path, state in wrong.items():
            output.print(f"{path}: {state.value.replace('_', ' ')}", highlight=False, soft_wrap=True)
        if wrong and not repair:
            _fail(f"{len(wrong)} of {len(states)} files of {spec.id} are not as they should be; --repair mends them.")
        if wrong:
            progress = Fetching()
            with _showing(spec, progress):
                ensure_model(spec, folder, progress, cast=cast, check_content=True)
    output.print(f"{spec.id}: all {len(states)} files are as they should be.", highlight=False)


@app.command()
def remove(
    model: Model,
    config: Config = _CONFIG,
    models_dir: ModelsDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the files that were fetched of a model. A service that has it loaded keeps it until it is unloaded."""
    from wan22_bridge.fetching.downloads import remove_model

    with _telling_errors():
        spec, folder, _ = _choose_fetched(model, config, models_dir)
        size = _size(folder / spec.id)
        if not size:
            _fail(f"{spec.id} is not on this machine.")
        if not yes:
            typer.confirm(f"Remove {size / 1e9:.1f} GB of {spec.id} from {folder / spec.id}?", abort=True)
        removed = remove_model(spec, folder)
    output.print(f"{spec.id}: {removed / 1e9:.1f} GB removed.", highlight=False)


@app.command()
def convert(model: Model, config: Config = _CONFIG, models_dir: ModelsDir = None) -> None:
    """Cast a fetched model's fp32 weights to bf16, in which they are computed anyway: it takes half the disk."""
    from wan22_bridge.fetching import Fetching
    from wan22_bridge.fetching.downloads import ensure_model, find_model

    with _telling_errors():
        spec, folder, _ = _choose_fetched(model, config, models_dir)
        if find_model(spec, folder) is None:
            _fail(f"{spec.id} is not whole on this machine: `wan22 models pull --bf16 {spec.id}` fetches and casts it.")
        before = _size(folder / spec.id)
        with output.status(f"Casting {spec.id}"):
            ensure_model(spec, folder, Fetching(), cast=True)
        after = _size(folder / spec.id)
    output.print(f"{spec.id}: {before / 1e9:.1f} GB were, {after / 1e9:.1f} GB are on the disk.", highlight=False)


def _read(config: Path, models_dir: Path | None) -> "tuple[dict[str, ModelSpec], Path, set[str], bool]":
    """The models by id: those of the config and of the catalogue; where they are kept; which are served; whether what
    is fetched is cast to bf16.
    """
    from serve_app.running.config import load_config
    from wan22_bridge.catalogue import load_catalogue

    specs, served, folder, cast = load_catalogue(), set[str](), Path("data/models"), False
    if config.exists() or config != _CONFIG:
        _, settings = load_config(config, port=None, data_dir=None)
        found = {spec.id: spec for spec in settings.served_models()}
        specs, served, folder, cast = specs | found, set(found), settings.models_dir, settings.cast_to_bf16
    return specs, models_dir or folder, served, cast


def _choose(model: str, config: Path, models_dir: Path | None) -> "tuple[ModelSpec, Path, bool]":
    """A model, where models are kept, and whether they are cast as they come."""
    specs, folder, _, cast = _read(config, models_dir)
    if model not in specs:
        _fail(f"There is no model {model!r}; there are {', '.join(specs)}.", code=2)
    return specs[model], folder, cast


def _choose_fetched(model: str, config: Path, models_dir: Path | None) -> "tuple[ModelSpec, Path, bool]":
    spec, folder, cast = _choose(model, config, models_dir)
    if not spec.is_fetched:
        where = f"is in a folder of yours, {spec.path}" if spec.path else "is built in"
        _fail(f"{model} {where}: there is nothing that was fetched.", code=2)
    return spec, folder, cast


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def _showing(spec: "ModelSpec", progress: "Fetching", *, what: str = "fetching") -> Iterator[None]:
    """A bar for the time of the context, and Ctrl-C that stops in good order."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    ended = threading.Event()
    with Progress(*columns, TimeRemainingColumn(), console=errors) as bar:
        task = bar.add_task(f"{what} {spec.id}", total=None)

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
def _telling_errors() -> Iterator[None]:
    try:
        yield
    except Wan22Error as exc:
        errors.print(f"[red]Error:[/red] {escape(exc.message)}", *exc.suggestions, sep="\n  ", highlight=False)
        raise typer.Exit(2 if exc.category == "invalid_request" else 1) from None
    except KeyboardInterrupt:
        errors.print("Stopped; what came is kept.")
        raise typer.Exit(1) from None


def _fail(message: str, *, code: int = 1) -> NoReturn:
    errors.print(f"[red]Error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)
