"""The generator's metrics for Prometheus. Serve tags each with the deployment, the replica and the application."""

from ray.serve.metrics import Counter, Gauge, Histogram

from deployments.histograms import SECONDS_BUCKETS


class DeviceMetrics:
    """Metrics of model loads and snapshots."""

    def __init__(self) -> None:
        self._loads = Counter("wan22_model_loads", "Loaded models.", ("model",))
        self._load = Histogram("wan22_model_load_seconds", "Time to load a model.", SECONDS_BUCKETS, ("model",))
        self._snapshot = Histogram("wan22_snapshot_seconds", "Time to write a snapshot.", SECONDS_BUCKETS, ("model",))
        self._weights = Gauge("wan22_weights_vram_bytes", "Device memory of a model's weights.", ("model",))

    def loaded(self, model: str, seconds: float, vram_bytes: float) -> None:
        """Counts a loaded model."""
        self._loads.inc(1, {"model": model})
        self._load.observe(seconds, {"model": model})
        self._weights.set(vram_bytes, {"model": model})

    def checkpointed(self, model: str, seconds: float) -> None:
        """Records the time that a snapshot took."""
        self._snapshot.observe(seconds, {"model": model})
