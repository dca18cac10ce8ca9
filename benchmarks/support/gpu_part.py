"""Runs one part of the GPU benchmark: `gpu_part.py NAME SETTING`, with the setting as JSON."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from benchmarks.support import gpu_compute, gpu_memory
from benchmarks.support.gpu_setting import Setting

PARTS: dict[str, tuple[int, Callable[[Setting], None]]] = {
    "plans": (90, gpu_memory.try_all_plans),
    "attention": (40, gpu_compute.measure_attention),
    "expert": (90, gpu_compute.measure_expert),
    "decoding": (110, gpu_compute.measure_decoding),
    "compilation": (120, gpu_compute.measure_compilation),
    "loading": (80, gpu_memory.measure_loading),
    "swapping": (70, gpu_memory.measure_swapping),
    "quantization": (70, gpu_compute.measure_quantization),
    "timesteps": (40, gpu_compute.measure_timesteps),
    "small cards": (150, gpu_memory.try_small_cards),
}
"""Seconds and function of each part, the most valuable first."""


def main() -> None:
    """Runs the part that the command line names."""
    name, values = sys.argv[1], json.loads(sys.argv[2])
    folder, rows = Path(values.pop("folder")), Path(values.pop("rows"))
    PARTS[name][1](Setting(folder=folder, rows=rows, **values))


if __name__ == "__main__":
    main()
