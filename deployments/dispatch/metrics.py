"""What Ray's dashboard and Prometheus are told. Serve adds deployment, replica and application to each by itself."""

from collections.abc import Mapping
from typing import Any

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.buckets import SECONDS_BUCKETS

_BY_OUTCOME: Any = ("model", "outcome")
_BY_STAGE: Any = ("model", "stage")


class QueueMetrics:
    """What the dispatcher sees."""

    def __init__(self) -> None:
        of_model = ("model",)
        self._depth = Gauge("wan22_queue_depth", "Jobs that wait.", of_model)
        self._running = Gauge("wan22_running_jobs", "Jobs that run.", of_model)
        self._wait = Histogram("wan22_queue_wait_seconds", "From submission to claim.", SECONDS_BUCKETS, of_model)
        self._ended = Counter("wan22_jobs", "Claims that ended, by how.", _BY_OUTCOME)
        self._stage = Histogram("wan22_stage_seconds", "Of completed jobs.", SECONDS_BUCKETS, _BY_STAGE)
        self._yields = Counter("wan22_yields", "Jobs that were asked to give up their slot.", of_model)
        self._known: set[str] = set()

    def show_queue(self, waiting: Mapping[str, int], running: Mapping[str, int]) -> None:
        """How many jobs of each model there are now."""
        self._known |= waiting.keys() | running.keys()
        for model in self._known:
            self._depth.set(waiting.get(model, 0), {"model": model})
            self._running.set(running.get(model, 0), {"model": model})

    def claimed(self, model: str, wait_seconds: float) -> None:
        """A job was begun."""
        self._wait.observe(wait_seconds, {"model": model})

    def ended(self, model: str, outcome: str, timings: Mapping[str, float]) -> None:
        """A claim is over: completed, failed, cancelled, yielded, or interrupted, which is tried again."""
        self._ended.inc(1, {"model": model, "outcome": outcome})
        for stage, seconds in timings.items():
            self._stage.observe(seconds, {"model": model, "stage": stage})

    def asked_to_yield(self, model: str) -> None:
        """A job is to give up its slot."""
        self._yields.inc(1, {"model": model})
