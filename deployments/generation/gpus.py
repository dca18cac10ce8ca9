"""Present use of GPUs, as NVIDIA's driver reports it.

The driver's own tool counts the memory of all processes, and takes none itself. torch would have to open a context on
each GPU, which takes hundreds of megabytes.
"""

import csv
import logging
import subprocess
from collections.abc import Sequence
from functools import lru_cache

from deployments.jobs.replica_registry import GpuUse

logger = logging.getLogger("ray.serve")

_FIELDS = ("uuid", "name", "driver_version", "utilization.gpu", "memory.used", "memory.total")
_COMMAND = ("nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits")
_TIMEOUT_SECONDS = 10.0
_MB_OF_MIB = 2**20 / 1e6


def read_gpus(uuids: Sequence[str]) -> list[GpuUse]:
    """Returns the use of some GPUs, in their order; empty if the driver's tool is missing or fails.

    Args:
        uuids: ids of the GPUs without a prefix, as torch names them.
    """
    try:
        output = subprocess.run(_COMMAND, capture_output=True, check=True, text=True, timeout=_TIMEOUT_SECONDS).stdout
        lines = csv.reader(output.splitlines(), skipinitialspace=True)
        rows = [dict(zip(_FIELDS, line, strict=True)) for line in lines]
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        _warn(str(exc))
        return []
    found = {row["uuid"].removeprefix("GPU-"): row for row in rows}
    return [_to_use(found[uuid]) for uuid in uuids if uuid in found and found[uuid]["memory.total"].isdigit()]


@lru_cache
def _warn(reason: str) -> None:
    """Warns of a failure. The cache lets each reason be logged once, because the GPUs are read every few seconds."""
    extra = {"action": "gpus_not_read"}
    logger.warning("The use of the GPUs is unknown, because nvidia-smi failed: %s", reason, extra=extra)


def _to_use(row: dict[str, str]) -> GpuUse:
    busy = row["utilization.gpu"]
    return GpuUse(
        uuid=row["uuid"],
        name=row["name"],
        driver_version=row["driver_version"],
        gpu_percent=float(busy) if busy.isdigit() else None,
        vram_used_mb=float(row["memory.used"]) * _MB_OF_MIB,
        vram_total_mb=float(row["memory.total"]) * _MB_OF_MIB,
    )
