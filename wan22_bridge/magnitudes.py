"""How much a model's residuals grow from step to step: what MagCache has to know of each model, found by one run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import MagCacheConfig, WanTransformer3DModel
from diffusers.hooks import HookRegistry
from diffusers.hooks.mag_cache import _MAG_CACHE_BLOCK_HOOK

from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.files import atomic_path

RATIOS_FILE = "mag_ratios.json"
"""In a model's folder."""

MagRatios = Mapping[str, Sequence[float]]
"""By the expert's name, transformer or transformer_2: for each of its steps, the residual's norm over that of the step
before; the first is 1."""


def find_ratios(folder: Path) -> MagRatios | None:
    """The ratios that were found for the model in a folder; None where nobody has looked for them.

    Raises:
        ModelCorrupted: they can't be read.
    """
    path = folder / RATIOS_FILE
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        ratios = {str(name): [float(ratio) for ratio in values] for name, values in found.items()}
        if not all(ratios.values()):
            raise ValueError("an expert has none")
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise ModelCorrupted(
            f"The model's {RATIOS_FILE} can't be used: {str(exc)[:200]}.",
            suggestions=["Remove it, or run wan22 calibrate again."],
        ) from exc
    return ratios


def write_ratios(folder: Path, ratios: MagRatios) -> Path:
    """Keeps ratios in a model's folder."""
    path = folder / RATIOS_FILE
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(ratios), "utf-8")
    return path


class MagnitudeMeter:
    """Watches an expert's residuals while it denoises, and changes nothing."""

    def __init__(self, expert: WanTransformer3DModel, steps: int) -> None:
        """Begins with the expert's first step of a run in which it has so many."""
        self._expert = expert
        # One step more than there are: at its last one diffusers prints what it found, and forgets it.
        expert.enable_cache(MagCacheConfig(calibrate=True, num_inference_steps=steps + 1))

    def stop(self, context: str) -> list[float]:
        """Ends watching; gives the ratios of the passes that were made under a cache context."""
        tail: Any = HookRegistry.check_if_exists_or_initialize(self._expert.blocks[-1])
        states = tail.get_hook(_MAG_CACHE_BLOCK_HOOK).state_manager._state_cache
        ratios = [round(ratio, 5) for ratio in states[context].calibration_ratios] if context in states else []
        self._expert._reset_stateful_cache()
        self._expert.disable_cache()
        return ratios
