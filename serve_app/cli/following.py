"""Live progress of jobs in a terminal."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from serve_app.cli.client import Client
from serve_app.cli.terminal import errors, printable, warn


def follow_job(client: Client, task_id: str) -> dict[str, Any]:
    """Shows a job's stage, steps and remaining time on standard error until the job ends.

    Without a terminal, prints one line for each stage.

    Returns:
        The job after its end.
    """
    with _Rows([task_id]) as rows:
        for state in client.follow(task_id):
            rows.show(task_id, state)
    return client.task(task_id)


def follow_batch(client: Client, batch_id: str, task_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Shows all jobs of a batch as `follow_job` shows one, until all of them have ended.

    Args:
        client: a client of the service.
        batch_id: id of the batch.
        task_ids: ids of its jobs.

    Returns:
        The jobs after their end, without those that somebody has deleted.
    """
    tasks: list[dict[str, Any]] = []
    with _Rows(task_ids) as rows:
        for tasks in client.follow_batch(batch_id):
            for task in tasks:
                rows.show(task["id"], task)
    return tasks


class _Rows:
    """Progress of some jobs on standard error: a row for each in a terminal, else a line for each of their stages."""

    def __init__(self, task_ids: Sequence[str]) -> None:
        columns = (
            TextColumn("{task.fields[stage]:<18}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[steps]:>9}", markup=False),
            TextColumn("{task.fields[left]:>10}"),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)
        self._rows = {
            task_id: self._bar.add_task("", total=100, stage="queued", steps="", left="") for task_id in task_ids
        }
        self._shown: dict[str, str] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, task_id: str, state: dict[str, Any]) -> None:
        """Shows the state of a job. Jobs that were not announced are left out."""
        if task_id not in self._rows:
            return
        stage = printable(state["stage"]).replace("_", " ")
        if not errors.is_terminal and stage != self._shown.get(task_id):
            warn(f"{task_id}: {stage}")
            self._shown[task_id] = stage
        self._bar.update(
            self._rows[task_id],
            completed=state["progress"],
            stage=stage,
            steps=_describe_steps(state),
            left=_describe_time_left(state["eta_seconds"]),
        )


def _describe_steps(state: dict[str, Any]) -> str:
    return printable(f"{state['current_step']}/{state['total_steps']}") if state["current_step"] else ""


def _describe_time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} left"
