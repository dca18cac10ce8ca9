"""`wan22 generate --count`: several videos from one request."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from serve_app.cli.client import Client
from serve_app.cli.connection import ClientError
from serve_app.cli.following import follow_batch
from serve_app.cli.saving import report_saved, save_video
from serve_app.cli.terminal import print_json, show_error, warn


def generate_batch(
    client: Client,
    fields: Mapping[str, Any],
    inputs: Mapping[str, Path],
    paths: Sequence[Path | None],
    *,
    as_json: bool,
) -> None:
    """Submits a batch, follows it to its end and saves its videos. Ctrl-C cancels the batch and ends the command.

    Videos that were completed are saved even if others failed. Then the exit status is 1.

    Args:
        client: a client of the service.
        fields: the request's fields, with `num_outputs`.
        inputs: the images and videos, by field name.
        paths: the file for each video; None for a file with the job's id as its name.
        as_json: whether to print the jobs as JSON, those with a video with its `file`.
    """
    batch_id, task_ids = client.submit_batch(fields, inputs)
    tasks = {task["id"]: task for task in _follow(client, batch_id, task_ids)}
    failed = False
    for task_id, path in zip(task_ids, paths, strict=True):
        task = tasks.get(task_id)
        if task is None or task["status"] != "completed":
            failed = True
            _show_failure(task_id, task)
            continue
        path = path or Path(f"{task_id}.mp4")
        try:
            save_video(client, task_id, path)
        except typer.Exit:  # the error was shown, and the other videos can still be saved
            failed = True
            continue
        if as_json:
            task["file"] = str(path)
        else:
            report_saved(task, path)
    if as_json:
        print_json(list(tasks.values()))
    if failed:
        raise typer.Exit(1)


def _follow(client: Client, batch_id: str, task_ids: Sequence[str]) -> list[dict[str, Any]]:
    try:
        return follow_batch(client, batch_id, task_ids)
    except KeyboardInterrupt:
        try:
            client.cancel_batch(batch_id)
            message = "The jobs that had not ended are cancelled. Completed videos stay on the server."
        except ClientError as exc:
            message = str(exc)
        warn(f"Interrupted. {message}")
        raise typer.Exit(130) from None


def _show_failure(task_id: str, task: Mapping[str, Any] | None) -> None:
    if task is None:
        show_error(f"{task_id} was deleted before its video could be saved.")
    elif task["error"] is None:
        show_error(f"{task_id} was cancelled.")
    else:
        show_error(f"{task_id}: {task['error']['message']}", suggestions=task["error"]["suggestions"])
