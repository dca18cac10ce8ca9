"""Live progress of a job in a terminal."""

from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.client import Client
from serve_app.cli.terminal import errors, printable, warn


def follow_job(client: Client, task_id: str) -> dict[str, Any]:
    """Shows a job's stage, steps and remaining time on standard error until the job ends.

    Without a terminal, prints one line for each stage.

    Returns:
        The job after its end.
    """
    columns = (
        TextColumn("{task.fields[stage]:<18}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[steps]:>9}", markup=False),
        TextColumn("{task.fields[left]:>10}"),
        TimeElapsedColumn(),
    )
    shown = ""
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bar:
        row = bar.add_task("", total=100, stage="queued", steps="", left="")
        for state in client.follow(task_id):
            stage = printable(state["stage"]).replace("_", " ")
            if not errors.is_terminal and stage != shown:
                warn(f"{task_id}: {stage}")
                shown = stage
            bar.update(
                row,
                completed=state["progress"],
                stage=stage,
                steps=_describe_steps(state),
                left=_describe_time_left(state["eta_seconds"]),
            )
    return client.task(task_id)


def _describe_steps(state: dict[str, Any]) -> str:
    return printable(f"{state['current_step']}/{state['total_steps']}") if state["current_step"] else ""


def _describe_time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} left"
