"""Saving of generated videos."""

import shlex
from pathlib import Path
from typing import Any

from serve_app.cli.client import Client
from serve_app.cli.connection import ClientError
from serve_app.cli.output_file import describe_failure, open_output
from serve_app.cli.terminal import fail, say, warn


def save_video(client: Client, task_id: str, path: Path) -> None:
    """Downloads a job's video. When saving fails, the error says how to download the video again."""
    again = (
        "The video is still on the server. Download it with: "
        f"curl --fail --output {task_id}.mp4 {shlex.quote(client.video_url(task_id))}"
    )
    try:
        with open_output(path) as file:
            client.download(task_id, file)
    except OSError as exc:
        fail(f"Cannot save the video as {str(path)!r}: {describe_failure(exc)}.", suggestions=[again])
    except ClientError as exc:
        fail(str(exc), suggestions=[*exc.suggestions, again])


def report_saved(task: dict[str, Any], path: Path) -> None:
    """Prints where a completed job's video was saved."""
    say(
        f"Saved {path}: {task['resolution']}, {task['num_frames']} frames at {task['fps']:g} fps, seed {task['seed']}, "
        f"generated in {task['result']['generation_time_seconds']:.1f} s."
    )
    if task.get("is_mock"):  # a service of an earlier version does not say
        warn(f"The video is a placeholder that no model made: {task['mock_reason'] or 'the service is in mock mode.'}")
