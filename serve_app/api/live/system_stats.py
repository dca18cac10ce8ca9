"""Use of the machine on which this replica of the ingress runs, and the loaded models of all machines."""

from datetime import UTC, datetime
from typing import Any

import psutil

from serve_app.api.services import Services


def read_system_stats(services: Services) -> dict[str, Any]:
    """Measures the machine.

    The CPU's use is the average since the last call in this process. Fields about GPUs are null or empty where none
    can be measured.
    """
    memory = psutil.virtual_memory()
    models: dict[str, dict[str, float]] = {}
    for replica in services.replicas.all():
        for model in replica.models:
            entry = models.setdefault(model.model, {"replicas": 0, "vram_mb": 0.0})
            entry["replicas"] += 1
            entry["vram_mb"] += model.vram_mb
    return {
        "cpu_percent": psutil.cpu_percent(),
        "ram_used_gb": round(memory.used / 1e9, 3),
        "ram_total_gb": round(memory.total / 1e9, 3),
        "ram_percent": memory.percent,
        "gpu_percent": None,
        "vram_used_mb": None,
        "vram_total_mb": None,
        "vram_percent": None,
        "gpus": [],
        "models": models,
        "timestamp": datetime.now(UTC).isoformat(),
    }
