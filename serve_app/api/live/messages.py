"""The messages of live streams: their topics, and the conversion of the store's events into them."""

import json
from collections.abc import Mapping
from typing import Any

from deployments.jobs.events import QUEUE_CHANGED, describe
from deployments.jobs.job import Event, Job, JobState
from deployments.jobs.snapshots import QueueSnapshot
from serve_app.api.schemas.links import preview_url, video_url
from wan22_bridge.errors import OutOfMemory
from wan22_bridge.types import Stage

PROGRESS, QUEUE = "generation_progress", "queue_updates"
STATS, MODELS, DOWNLOADS, ALERTS = "system_stats", "model_status", "download_progress", "alerts"
TOPICS = (PROGRESS, QUEUE, STATS, MODELS, DOWNLOADS, ALERTS)
"""All topics of sockets."""
FIRST_TOPICS = (PROGRESS, QUEUE)
"""Topics to which a new socket is subscribed."""

Message = tuple[str, dict[str, Any]]
"""Type and data of a message."""

_LOADING = (Stage.LOADING_MODEL, Stage.DOWNLOADING_MODEL)


def encode(message: Message) -> str:
    """Returns a message as sockets send it. Older clients read the fields of `task_update` at the top level."""
    kind, data = message
    flat = data if kind == "task_update" else {}
    return json.dumps(flat | {"type": kind, "data": data})


class Narrator:
    """Converts a sequence of events into messages.

    It remembers the last stage of each running job, because a change of the stage has a message of its own.
    """

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}

    def narrate(self, event: Event) -> list[tuple[str, Message]]:
        """Returns the messages of an event, each with its topic."""
        if event.type == QUEUE_CHANGED:
            return [(QUEUE, ("queue_update", {name: event.data[name] for name in event.data if name != "owner"}))]
        job_id, data, state = event.job_id, event.data, JobState(event.data["state"])
        if event.type in ("deleted", "restored"):
            self._stages.pop(job_id, None)
            status = "deleted" if event.type == "deleted" else state.value
            return [(QUEUE, ("queue_update", {"task_id": job_id, "status": status}))]
        messages: list[tuple[str, Message]] = [(PROGRESS, _update(job_id, data))]
        if self._stages.get(job_id) != data["stage"]:
            self._stages[job_id] = data["stage"]
            messages.append((PROGRESS, ("generation_stage", {"task_id": job_id, "stage": data["stage"]})))
            messages.append((QUEUE, ("queue_update", {"task_id": job_id, "status": state.value})))
        if data["stage"] in _LOADING:
            messages.append((PROGRESS, _loading(job_id, data)))
        if state is JobState.PROCESSING:
            messages.append((PROGRESS, _detail(job_id, data)))
        if state.ended:
            self._stages.pop(job_id, None)
        if state is JobState.FAILED and data["error"]["code"] in OutOfMemory.codes:
            messages.append((ALERTS, _out_of_memory(job_id, data["error"])))
        return messages


def job_update(job: Job) -> Message:
    """Returns the message about a job's present state."""
    return _update(job.id, describe(job))


def queue_state(snapshot: QueueSnapshot) -> Message:
    """Returns the message about the state of the whole queue."""
    counts = {f"{state.value}_tasks": count for state, count in snapshot.counts.items()}
    return "queue_update", {"total_tasks": sum(snapshot.counts.values()), **counts, "paused": snapshot.paused}


def _update(job_id: str, data: Mapping[str, Any]) -> Message:
    state = JobState(data["state"])
    return "task_update", {
        "task_id": job_id,
        "status": state.value,
        "message": _describe(state, data),
        "output_path": video_url(job_id) if state is JobState.COMPLETED else None,
        "eta_seconds": data["eta_seconds"],
        "attempt": data["attempt"],
        "error": data["error"],
        "is_mock": data.get("is_mock", False),
        **_steps(data),
    }


def _detail(job_id: str, data: Mapping[str, Any]) -> Message:
    shows = data["stage"] == Stage.GENERATING and data["current_step"] > 0 and not data.get("is_mock", False)
    detail = {
        "task_id": job_id,
        "estimated_time_remaining": data["eta_seconds"],
        "preview_url": preview_url(job_id) if shows else None,
    }
    return "detailed_generation_progress", detail | _steps(data)


def _loading(job_id: str, data: Mapping[str, Any]) -> Message:
    """Returns the message about the model that a job waits for. Its progress is known for a download only."""
    is_download = data["stage"] == Stage.DOWNLOADING_MODEL
    return "model_loading_progress", {
        "task_id": job_id,
        "model": data["model"],
        "stage": data["stage"],
        "progress": data["progress"] if is_download else None,
        "estimated_time_remaining": data["eta_seconds"] if is_download else None,
    }


def _out_of_memory(job_id: str, error: Mapping[str, Any]) -> Message:
    alert = {"id": f"out_of_memory:{job_id}", "level": "error", "task_id": job_id, "active": True}
    return "alert", alert | {name: error[name] for name in ("code", "message", "suggestions")}


def _steps(data: Mapping[str, Any]) -> dict[str, Any]:
    steps = {name: data[name] for name in ("stage", "progress", "current_step", "total_steps")}
    return steps | {name: data.get(name) for name in ("segment", "total_segments")}  # older events lack these


def _describe(state: JobState, data: Mapping[str, Any]) -> str:
    if state is JobState.FAILED and data["error"]:
        return str(data["error"]["message"])
    if state is JobState.PROCESSING and data["cancel_requested"]:
        return "cancelling"
    if state is JobState.PROCESSING and data["stage"] == "generating":
        step = f"step {data['current_step']} of {data['total_steps']}"
        segment = data.get("segment")
        return step if segment is None else f"{step}, segment {segment} of {data['total_segments']}"
    return str(data["stage"]).replace("_", " ")
