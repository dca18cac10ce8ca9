"""Commands for jobs of a running service: `wan22 generate`, `wan22 jobs` and `wan22 cancel`."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from serve_app.api.schemas.seeds import MAX_OUTPUTS
from serve_app.cli.batches import generate_batch
from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.connection import ClientError
from serve_app.cli.following import follow_job
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.output_file import UnusableOutput, check_folder, check_output
from serve_app.cli.saving import report_saved, save_video
from serve_app.cli.terminal import fail, print_json, print_rows, reporting_errors, say, warn
from wan22_bridge.options import DEFAULT_STRENGTH, SchedulerName, StepCache

_OWN_OPTIONS = {"output", "as_json", "url", "api_key"}
"""Options of `generate` that are not fields of the request."""


def _input_file(option: str, description: str) -> Any:
    """Declares an option that names an existing file."""
    return typer.Option(option, exists=True, dir_okay=False, readable=True, help=description)


def parse_lora(text: str) -> dict[str, Any]:
    """Returns the request's field for NAME[:STRENGTH[:STRENGTH_2]]; `=` may stand for the first colon.

    Raises:
        typer.BadParameter: the text does not have that form.
    """
    name, *strengths = re.split("[:=]", text)
    try:
        values = [float(strength) for strength in strengths]
    except ValueError:
        values = []
    if len(values) != len(strengths) or len(values) > 2:
        raise typer.BadParameter(f"{text}: expected NAME[:STRENGTH[:STRENGTH_2]], such as {name}:0.8.")
    return {"name": name} | dict(zip(("strength", "strength_2"), values, strict=False))


def _parse_segment(text: str) -> dict[str, Any]:
    """Reads TEXT or TEXT@FRAMES. An @ without a number behind it is part of the text."""
    prompt, given, frames = text.rpartition("@")
    if given and frames.isascii() and frames.isdigit():
        return {"prompt": prompt, "num_frames": int(frames)}
    return {"prompt": text}


def generate(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(help="Description of the video, 1 to 2000 characters. Not with --segment.")
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="File to save to. Default: JOB_ID.mp4.")
    ] = None,
    image: Annotated[
        Path | None,
        _input_file("--image", "First frame: a PNG, JPEG or WebP image, or an mp4 to continue from its last frame."),
    ] = None,
    end_image: Annotated[Path | None, _input_file("--last-image", "Last frame: a PNG, JPEG or WebP image.")] = None,
    video: Annotated[Path | None, _input_file("--video", "An mp4 to regenerate with the prompt.")] = None,
    strength: Annotated[
        float | None,
        typer.Option(help=f"With --video: share of the steps to run, above 0, at most 1. Default: {DEFAULT_STRENGTH}."),
    ] = None,
    model_type: Annotated[
        str, typer.Option("--model", help="A model's id or type; see `wan22 models served`.")
    ] = "auto",
    resolution: Annotated[
        str | None, typer.Option("--size", help="Width and height in pixels, such as 832x480. Default: the model's.")
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option("--frames", help="Number of frames, rounded down to 4k+1. Default: the model's.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 100. Default: the model's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise. Default: random.")] = None,
    num_outputs: Annotated[
        int | None,
        typer.Option(
            "--count",
            min=1,
            max=MAX_OUTPUTS,
            help=f"Number of videos to make, 1 to {MAX_OUTPUTS}. With --seed, the seeds count up from it. The files "
            "get numbers: `-o out.mp4` saves out-1.mp4, out-2.mp4 and so on. --json prints a list.",
        ),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, 1 to 120. Default: the model's.")] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="Description of what the video must not show. Default: the model's.")
    ] = None,
    guidance_scale: Annotated[
        float | None,
        typer.Option("--guidance", help="Guidance scale; 1 or less switches guidance off. Default: the model's."),
    ] = None,
    guidance_scale_2: Annotated[
        float | None, typer.Option("--guidance-2", help="Guidance scale of the low-noise expert. Default: --guidance.")
    ] = None,
    scheduler: Annotated[SchedulerName | None, typer.Option(help="Sampler. Default: unipc.")] = None,
    step_cache: Annotated[
        StepCache | None, typer.Option(help="Step-cache method, faster and less exact. Default: none.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Named set of defaults, such as lightning; see `wan22 models served`.")
    ] = None,
    loras: Annotated[
        list[Any] | None,
        typer.Option(
            "--lora",
            parser=parse_lora,
            metavar="NAME[:STRENGTH[:STRENGTH_2]]",
            help="A LoRA to apply, with its strength and that for the low-noise expert, 0 to 2; repeatable. See "
            "`wan22 loras list`.",
        ),
    ] = None,
    segments: Annotated[
        list[Any] | None,
        typer.Option(
            "--segment",
            parser=_parse_segment,
            metavar="TEXT[@FRAMES]",
            help="A part of a long video, generated from the last frame of the part before it; repeatable, 2 to 16.",
        ),
    ] = None,
    webhook_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Receiver of a signed POST request when the job ends; see `wan22 webhooks`."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Generate a video: submit a job, show its progress and save the mp4. Ctrl-C cancels the job.

    With --count, generate several videos from the same options with different seeds. If some of them fail, the others
    are saved, and the exit status is 1.
    """
    if prompt is None and not segments:
        raise typer.BadParameter("expected a prompt, or --segment at least twice.", param_hint="PROMPT")
    paths = _check_outputs(output, num_outputs or 1)
    # The other parameters are named like the request's fields, and sent as they are.
    given = {name: value for name, value in context.params.items() if name not in _OWN_OPTIONS}
    inputs = {name: value for name, value in given.items() if isinstance(value, Path)}
    fields = {name: value for name, value in given.items() if name not in inputs and value not in (None, ())}
    with reporting_errors(), Client(url, api_key) as client:
        if len(paths) > 1:
            generate_batch(client, fields, inputs, paths, as_json=as_json)
            return
        task_id = client.submit(fields, inputs)
        task = _follow(client, task_id)
        if task["status"] != "completed":
            _fail_job(task, as_json)
        path = paths[0] or Path(f"{task_id}.mp4")
        save_video(client, task_id, path)
    if as_json:
        print_json(task | {"file": str(path)})
        return
    report_saved(task, path)


def jobs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs to list.")] = 20,
    status: Annotated[
        str | None, typer.Option(help="List only pending, processing, completed, failed or cancelled jobs.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """List the newest jobs."""
    with reporting_errors(), Client(url, api_key) as client:
        tasks = client.tasks(limit=limit, status=status)
    if as_json:
        print_json(tasks)
        return
    rows = [(task["id"], _describe_status(task), task["model"], task["resolution"], task["prompt"]) for task in tasks]
    print_rows(("job", "status", "model", "size", "prompt"), rows)


def cancel(
    job_id: Annotated[str, typer.Argument(help="The job's id; see `wan22 jobs`.")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Cancel a pending or running job."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.cancel(job_id))


def _check_outputs(name: str | None, count: int) -> list[Path | None]:
    """Returns the files to save to. Ends the command if one can't be saved, before the service works on the jobs."""
    try:
        if name is None:
            check_folder(Path.cwd())
            return [None] * count
        first = check_output(name)
        if count == 1:
            return [first]
        if first.exists() and not first.is_file():
            raise UnusableOutput(f"Cannot save {count} videos as {name!r}: expected a file, got a pipe or a device.")
        stem, suffix = os.path.splitext(name)
        return [check_output(f"{stem}-{number}{suffix}") for number in range(1, count + 1)]
    except UnusableOutput as exc:
        fail(str(exc), code=2)


def _follow(client: Client, task_id: str) -> dict[str, Any]:
    """Follows a job to its end. Ctrl-C cancels the job and ends the command."""
    try:
        return follow_job(client, task_id)
    except KeyboardInterrupt:
        try:
            message = client.cancel(task_id)
        except ClientError as exc:
            message = str(exc)
        warn(f"Interrupted. {message}")
        raise typer.Exit(130) from None


def _describe_status(task: dict[str, Any]) -> str:
    return f"{task['progress']:.0f} %" if task["status"] == "processing" else task["status"]


def _fail_job(task: dict[str, Any], as_json: bool) -> NoReturn:
    if as_json:
        print_json(task)
    error = task["error"] or {"message": "The job was cancelled.", "suggestions": []}
    fail(error["message"], suggestions=error["suggestions"])
