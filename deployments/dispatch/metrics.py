"""The dispatcher's metrics for Prometheus. Serve tags each with the deployment, the replica and the application."""

from collections.abc import Mapping
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.histograms import SECONDS_BUCKETS

_BY_OUTCOME: Any = ("model", "outcome")
_BY_STAGE: Any = ("model", "stage")


class QueueMetrics:
    """Metrics of the queue and of the claims."""

    def __init__(self) -> None:
        by_model = ("model",)
        self._depth = Gauge("wan22_queue_depth", "Pending jobs.", by_model)
        self._running = Gauge("wan22_running_jobs", "Running jobs.", by_model)
        self._wait = Histogram("wan22_queue_wait_seconds", "Time from submission to claim.", SECONDS_BUCKETS, by_model)
        self._ended = Counter("wan22_jobs", "Ended claims, by outcome.", _BY_OUTCOME)
        self._stage = Histogram("wan22_stage_seconds", "Stages of completed jobs.", SECONDS_BUCKETS, _BY_STAGE)
        self._preemptions = Counter("wan22_yields", "Running jobs that were asked to give up their slot.", by_model)
        self._known: set[str] = set()

    def show_queue(self, pending: Mapping[str, int], running: Mapping[str, int]) -> None:
        """Sets the number of pending and of running jobs of each model."""
        self._known |= pending.keys() | running.keys()
        for model in self._known:
            self._depth.set(pending.get(model, 0), {"model": model})
            self._running.set(running.get(model, 0), {"model": model})

    def claimed(self, model: str, wait_seconds: float) -> None:
        """Counts a claim."""
        self._wait.observe(wait_seconds, {"model": model})

    def ended(self, model: str, outcome: str, timings: Mapping[str, float]) -> None:
        """Counts an ended claim.

        Args:
            model: the job's model.
            outcome: completed, failed, cancelled, yielded (preempted), or interrupted (the job returns to the queue).
            timings: the seconds of each stage of a completed job.
        """
        self._ended.inc(1, {"model": model, "outcome": outcome})
        for stage, seconds in timings.items():
            self._stage.observe(seconds, {"model": model, "stage": stage})

    def preemption_requested(self, model: str) -> None:
        """Counts a preemption."""
        self._preemptions.inc(1, {"model": model})
