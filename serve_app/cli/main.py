"""`wan22`: serve, and use a running service from a terminal. Exit codes: 0 done, 1 failed, 2 asked wrongly."""

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from serve_app.cli.calibrate import calibrate
from serve_app.cli.client import DEFAULT_URL, Client, ClientError
from serve_app.cli.doctor import doctor
from serve_app.cli.following import follow_job
from serve_app.cli.model_files import app as model_files
from serve_app.cli.plan import plan
from serve_app.cli.simulate import simulate

app = typer.Typer(
    name="wan22", help="Wan2.2 video generation on your own machines.", no_args_is_help=True, add_completion=False
)
output = Console()
errors = Console(stderr=True)

Url = Annotated[str, typer.Option("--url", envvar="WAN22_URL", help="Where the service answers.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _input_file(what: str) -> Any:
    """An option that names a file which is there."""
    return typer.Option(exists=True, dir_okay=False, readable=True, help=what)


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The Serve config.")] = Path("serve_config.yaml"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="In place of the config's port.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="In place of the config's data_dir.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show Ray's and the replicas' logs.")] = False,
) -> None:
    """Start the service: `serve run` with the configuration checked first. Ctrl-C stops it."""
    from serve_app.running.config import load_config
    from serve_app.running.machine import check_machine
    from serve_app.running.service import run
    from wan22_bridge.errors import ConfigurationError

    try:
        checked, settings = load_config(config, port=port, data_dir=data_dir)
        check_machine(checked, settings)
    except ConfigurationError as exc:
        _fail(exc.message, code=2)
    raise typer.Exit(
        run(
            checked,
            verbose=verbose,
            say=lambda line: output.print(escape(line), highlight=False, soft_wrap=True),
            say_error=lambda line: errors.print(f"[red]Error:[/red] {escape(line)}", highlight=False, soft_wrap=True),
        )
    )


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to show.")],
    out: Annotated[Path | None, typer.Option("--output", "-o", help="Where to save; by default JOB_ID.mp4.")] = None,
    image: Annotated[
        Path | None, _input_file("The first frame: PNG, JPEG or WebP; or an mp4, to go on from its last frame.")
    ] = None,
    last_image: Annotated[Path | None, _input_file("The last frame.")] = None,
    video: Annotated[Path | None, _input_file("An mp4 to make anew.")] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of the video is made anew, above 0 and at most 1.")
    ] = None,
    model: Annotated[str, typer.Option(help="A model's id or type; see `wan22 models`.")] = "auto",
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    frames: Annotated[int | None, typer.Option(help="4k+1; snapped down.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 100.")] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed makes the same video.")] = None,
    preset: Annotated[str | None, typer.Option(help="Other defaults, such as lightning; see `wan22 models`.")] = None,
    lora: Annotated[list[str] | None, typer.Option(help="NAME or NAME=STRENGTH; may be given several times.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a video: submit, show the progress, save the mp4. Ctrl-C cancels the job."""
    folder = Path() if out is None else out.absolute().parent
    if (out is not None and out.is_dir()) or not folder.is_dir() or not os.access(folder, os.W_OK):
        _fail(f"{out or folder.absolute()}: not a file in a folder that can be written.", code=2)
    fields = {
        "prompt": prompt,
        "model_type": model,
        "resolution": size,
        "num_frames": frames,
        "steps": steps,
        "seed": seed,
        "strength": strength,
        "preset": preset,
        "loras": [_parse_lora(text) for text in lora] if lora else None,
    }
    inputs = {"image": image, "end_image": last_image, "video": video}
    with _client(url) as client:
        task_id = client.submit(
            {name: value for name, value in fields.items() if value is not None},
            {name: path for name, path in inputs.items() if path is not None},
        )
        task = _follow(client, task_id)
        if task["status"] != "completed":
            _fail_job(task, as_json)
        path = out or Path(f"{task_id}.mp4")
        try:
            client.download(task_id, path)
        except OSError as exc:
            _fail(f"{path}: {exc.strerror}.", suggestions=[f"The video is kept: {url}{task['output_path']}"])
    if as_json:
        _print_json(task | {"file": str(path)})
    else:
        seconds = task["result"]["generation_time_seconds"]
        line = f"Saved {path}: {_describe(task)}, made in {seconds:.1f} s."
        output.print(escape(line), highlight=False, soft_wrap=True)


@app.command()
def jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    status: Annotated[str | None, typer.Option(help="pending, processing, completed, failed or cancelled.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List the newest jobs."""
    with _client(url) as client:
        tasks = client.tasks(limit=limit, status=status)
    if as_json:
        _print_json(tasks)
        return
    table = Table(Column("job", no_wrap=True), "status", "progress", "model", "size", "prompt", box=None)
    for task in tasks:
        prompt = task["prompt"] if len(task["prompt"]) <= 40 else task["prompt"][:39] + "…"
        table.add_row(
            task["id"], task["status"], f"{task['progress']:.0f} %", task["model"], task["resolution"], escape(prompt)
        )
    output.print(table)


@app.command()
def cancel(job_id: Annotated[str, typer.Argument(help="As `wan22 jobs` lists it.")], url: Url = DEFAULT_URL) -> None:
    """Cancel a job that waits or runs."""
    with _client(url) as client:
        output.print(client.cancel(job_id))


app.add_typer(model_files, name="models")


@model_files.command()
def served(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the models that a running service serves, and their defaults."""
    with _client(url) as client:
        found = client.models()
    if as_json:
        _print_json(found)
        return
    table = Table("model", "type", "image", "size", "frames", "fps", "steps", "presets", box=None)
    for item in found:
        image = item["image"] + (" + last" if item["end_image"] else "")
        numbers = (str(item[name]) for name in ("num_frames", "fps", "steps"))
        presets = ", ".join(item["presets"])
        table.add_row(item["id"], item["model_type"], image, item["size"], *numbers, presets)
    output.print(table)


app.command()(plan)
app.command()(doctor)
app.command()(calibrate)
app.command()(simulate)


@app.command()
def fit_preview(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A model's, in diffusers' format.")],
) -> None:
    """Fit the colours of live previews to a model's own VAE, and keep them in its folder as preview.json."""
    from diffusers import AutoencoderKLWan

    from wan22_bridge.models.kernels import use_fast_kernels
    from wan22_bridge.models.sidecars import write_factors
    from wan22_bridge.tuning.preview_factors import draw_pictures, fit_factors

    try:
        vae = AutoencoderKLWan.from_pretrained(folder / "vae")
        use_fast_kernels(vae)
        path = write_factors(folder, fit_factors(vae, draw_pictures()))
    except (OSError, ValueError, RuntimeError) as exc:
        _fail(f"{folder}: no VAE of Wan2.2 in diffusers' format: {str(exc).partition(chr(10))[0][:200]}", code=2)
    output.print(f"Wrote {path}", highlight=False, soft_wrap=True)


@app.command()
def version() -> None:
    """Print the version."""
    output.print(package_version("wan22-serve"), highlight=False)


def main() -> None:
    """The entry point."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()


@contextmanager
def _client(url: str) -> Iterator[Client]:
    """A client whose errors end the command with their message."""
    try:
        with Client(url) as client:
            yield client
    except ClientError as exc:
        _fail(str(exc), suggestions=exc.suggestions, code=2 if exc.invalid else 1)


def _follow(client: Client, task_id: str) -> dict[str, Any]:
    """Follows a job to its end, and cancels it on Ctrl-C."""
    try:
        return follow_job(client, task_id, errors)
    except KeyboardInterrupt:
        try:
            message = client.cancel(task_id)
        except ClientError as exc:
            message = str(exc)
        errors.print(f"Interrupted. {message}")
        raise typer.Exit(130) from None


def _parse_lora(text: str) -> dict[str, Any]:
    name, given, strength = text.partition("=")
    try:
        return {"name": name} | ({"strength": float(strength)} if given else {})
    except ValueError:
        _fail(f"--lora {text}: expected NAME or NAME=STRENGTH, such as {name}=0.8.", code=2)


def _describe(task: dict[str, Any]) -> str:
    return f"{task['resolution']}, {task['num_frames']} frames at {task['fps']} fps, seed {task['seed']}"


def _fail_job(task: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        _print_json(task)
    error = task["error"] or {"message": "The job was cancelled.", "suggestions": []}
    _fail(error["message"], suggestions=error["suggestions"])


def _fail(message: str, *, suggestions: list[str] | None = None, code: int = 1) -> NoReturn:
    errors.print(f"[red]Error:[/red] {escape(message)}", highlight=False, soft_wrap=True)
    for suggestion in suggestions or []:
        errors.print(f"  {escape(suggestion)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def _print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")
