"""The small JSON files beside a model's weights: MagCache's ratios and the factors of previews."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

import configs
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.files import atomic_path

FACTORS_FILE = "preview.json"
"""In a model's folder: factors that were fitted to its own VAE."""

RATIOS_FILE = "mag_ratios.json"
"""In a model's folder."""

MagRatios = Mapping[str, Sequence[float]]
"""By the expert's name, transformer or transformer_2: for each of its steps, the residual's norm over that of the step
before; the first is 1."""

_PUBLISHED = {16: "wan-2.1", 48: "wan-2.2"}
"""By the number of latent channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewFactors:
    """Colours in -1..1 are `bias` plus the channels, in the transformer's scale, times `channels`."""

    channels: list[list[float]]
    """[z][3]"""
    bias: list[float]
    """[3]"""


def find_factors(folder: Path, z_dim: int) -> PreviewFactors | None:
    """The factors of the model in a folder: its own, or the published ones of its VAE; None where there are none.

    Raises:
        ModelCorrupted: its own can't be read, or are for another number of channels.
    """
    own = folder / FACTORS_FILE
    if not own.is_file():
        published = yaml.safe_load(configs.previews_file().read_text("utf-8"))["factors"]
        return PreviewFactors(**published[_PUBLISHED[z_dim]]) if z_dim in _PUBLISHED else None
    try:
        factors = PreviewFactors(**json.loads(own.read_text("utf-8")))
        if np.shape(factors.channels) != (z_dim, 3) or np.shape(factors.bias) != (3,):
            raise ValueError(f"they are not for {z_dim} channels")
    except (OSError, ValueError, TypeError) as exc:
        raise ModelCorrupted(
            f"The model's {FACTORS_FILE} can't be used: {str(exc)[:200]}.",
            suggestions=["Remove it, or run wan22 fit-preview again."],
        ) from exc
    return factors


def write_factors(folder: Path, factors: PreviewFactors) -> Path:
    """Keeps factors in a model's folder."""
    path = folder / FACTORS_FILE
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(factors)), "utf-8")
    return path


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
