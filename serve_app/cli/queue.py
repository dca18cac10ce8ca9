"""Commands for the queue of a running service: `wan22 queue`."""

from typing import Annotated

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.terminal import print_json, print_rows, reporting_errors, say

app = typer.Typer(help="Show and control the queue.", invoke_without_command=True)

_JobId = Annotated[str, typer.Argument(help="The job's id; see `wan22 jobs`.")]
_STATES = ("pending", "processing", "completed", "failed", "cancelled")


@app.callback()
def summary(context: typer.Context, as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Show the number of jobs in each state, and the active jobs in the order of the queue."""
    if context.invoked_subcommand is not None:
        context.default_map = {context.invoked_subcommand: {"url": url, "api_key": api_key}}
        return
    with reporting_errors(), Client(url, api_key) as client:
        queue, active = client.queue(), client.active_tasks()
    counts = {state: queue[f"{state}_tasks"] for state in _STATES}
    if as_json:
        print_json({"paused": queue["paused"], **counts, "tasks": active})
        return
    say(", ".join(f"{count} {state}" for state, count in counts.items()))
    if queue["paused"]:
        say("The queue is paused: no job begins. Resume it with `wan22 queue resume`.")
    if active:
        rows = [
            (_describe_place(task), task["id"], task["model"], task["resolution"], task["prompt"]) for task in active
        ]
        print_rows(("place", "job", "model", "size", "prompt"), rows)


@app.command()
def pause(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Pause the queue: running jobs continue, and no other job begins."""
    with reporting_errors(), Client(url, api_key) as client:
        client.set_paused(True)
    say("The queue is paused. Running jobs continue.")


@app.command()
def resume(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Resume a paused queue."""
    with reporting_errors(), Client(url, api_key) as client:
        client.set_paused(False)
    say("The queue is running.")


@app.command()
def reorder(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB_ID...", help="Ids of pending jobs in their new order.")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Change the order of pending jobs: they exchange their places, and all other jobs keep theirs."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.reorder(job_ids))


@app.command()
def retry(job_id: _JobId, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Put a failed or cancelled job back into the queue."""
    with reporting_errors(), Client(url, api_key) as client:
        say(f"The job is {client.retry(job_id)['status']}.")


@app.command()
def clear(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Remove ended jobs from the queue's list. No video is deleted."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.clear_queue())


@app.command()
def delete(job_id: _JobId, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Delete a job that does not run, and its video."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.delete(job_id))


def _describe_place(task: dict[str, object]) -> object:
    return "runs" if task["status"] == "processing" else task["queue_position"]
