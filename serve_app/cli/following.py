"""Showing a job's progress in a terminal."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.client import Client


def follow_job(client: Client, task_id: str, console: Console) -> dict[str, Any]:
    """Shows a job's stage, steps and time left until it is over; without a terminal, a line for each stage.

    Returns:
        The job at its end.
    """
    columns = (
        TextColumn("{task.fields[stage]:<18}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[steps]:>9}"),
        TextColumn("{task.fields[left]:>10}"),
        TimeElapsedColumn(),
    )
    said = ""
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        row = bar.add_task("", total=100, stage="queued", steps="", left="")
        for state in client.follow(task_id):
            stage = state["stage"].replace("_", " ")
            if not console.is_terminal and stage != said:
                console.print(f"{task_id}: {stage}", highlight=False, soft_wrap=True)
                said = stage
            bar.update(
                row, completed=state["progress"], stage=stage, steps=_steps(state), left=_left(state["eta_seconds"])
            )
    return client.task(task_id)


def _steps(state: dict[str, Any]) -> str:
    return f"{state['current_step']}/{state['total_steps']}" if state["current_step"] else ""


def _left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} left"
