"""A generator's metrics. Serve adds deployment, replica and application to each by itself."""

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.buckets import SECONDS_BUCKETS


class DeviceMetrics:
    """What a generator does with its device."""

    def __init__(self) -> None:
        self._loads = Counter("wan22_model_loads", "Models that were loaded.", ("model",))
        self._load = Histogram("wan22_model_load_seconds", "What that took.", SECONDS_BUCKETS, ("model",))
        self._snapshot = Histogram("wan22_snapshot_seconds", "What it took to keep a job.", SECONDS_BUCKETS, ("model",))
        self._weights = Gauge("wan22_weights_vram_bytes", "What a model's weights took as it was loaded.", ("model",))

    def loaded(self, model: str, seconds: float, vram_bytes: float) -> None:
        """A model was loaded."""
        self._loads.inc(1, {"model": model})
        self._load.observe(seconds, {"model": model})
        self._weights.set(vram_bytes, {"model": model})

    def kept(self, model: str, seconds: float) -> None:
        """A running job was kept as it is."""
        self._snapshot.observe(seconds, {"model": model})
