"""`wan22 upload` and `wan22 outputs`: files of a running service."""

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.output_file import UnusableOutput, check_output, describe_failure, open_output
from serve_app.cli.terminal import fail, print_json, print_rows, reporting_errors, say

app = typer.Typer(no_args_is_help=True, help="List, download and delete the videos of a running service.")

Video = Annotated[str, typer.Argument(metavar="ID", help="The video's id; see `wan22 outputs list`.")]


def upload(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="A PNG, JPEG, WebP or mp4 file.")
    ],
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Upload an image or a video and print its id, for several requests with the same file."""
    with reporting_errors(), Client(url, api_key) as client:
        found = client.upload(file)
    if as_json:
        print_json(found)
        return
    say(found["id"])


@app.command("list")
def list_outputs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of videos to list.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """List the newest videos."""
    with reporting_errors(), Client(url, api_key) as client:
        videos = client.outputs(limit=limit)
    if as_json:
        print_json(videos)
        return
    rows = [
        (
            video["id"],
            video["model_type"],
            video["resolution"],
            f"{video['duration_seconds']:.1f} s",
            f"{video['file_size_mb']:.1f} MB",
            video["prompt"],
        )
        for video in videos
    ]
    print_rows(("video", "type", "size", "length", "file", "prompt"), rows)


@app.command()
def download(
    video: Video,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="FILE", help="File to save to. Default: ID.mp4.")
    ] = None,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Download a video."""
    name = output or f"{video}.mp4"
    with reporting_errors(), Client(url, api_key) as client:
        try:
            path = check_output(name)
            with open_output(path) as file:
                client.download(video, file)
        except UnusableOutput as exc:
            fail(str(exc), code=2)
        except OSError as exc:
            fail(f"Cannot save the video as {name!r}: {describe_failure(exc)}.")
    say(f"Saved {path}.")


@app.command()
def delete(video: Video, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Delete a video and its job."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.delete_output(video))
