"""Small JSON files beside a model's weights: MagCache's ratios and the preview factors."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import configs
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.files import atomic_path
from wan22_bridge.reasons import find_reason

FACTORS_FILE = "preview.json"
"""File in a model's folder with preview factors that were fitted to the model's own VAE."""

RATIOS_FILE = "mag_ratios.json"
"""File in a model's folder with the ratios for MagCache."""

MagRatios = Mapping[str, Sequence[float]]
"""Ratios by the expert's name, `transformer` or `transformer_2`, one for each of the expert's steps.

A ratio is the norm of the step's residual divided by the norm of the previous step's residual. The first ratio is 1.
"""

_PUBLISHED = {16: "wan-2.1", 48: "wan-2.2"}
"""Name of the VAE's published preview factors in configs/previews.yaml, by the number of latent channels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewFactors:
    """Linear map from latents in the transformer's unit scale to colors in -1..1: `latents @ channels + bias`."""

    channels: list[list[float]]
    """Shape [z][3]."""
    bias: list[float]
    """Shape [3]."""


def find_factors(folder: Path, z_dim: int) -> PreviewFactors | None:
    """Returns a model's own preview factors, else the published factors of its VAE, else None.

    Args:
        folder: The model's folder.
        z_dim: Number of the VAE's latent channels.

    Raises:
        ModelCorrupted: The model's own factors can't be read, or are for another number of channels.
    """
    own = folder / FACTORS_FILE
    if not own.is_file():
        published = yaml.safe_load(configs.previews_file().read_text("utf-8"))["factors"]
        return PreviewFactors(**published[_PUBLISHED[z_dim]]) if z_dim in _PUBLISHED else None
    with _reporting_damage(FACTORS_FILE, command="fit-preview"):
        factors = PreviewFactors(**json.loads(own.read_text("utf-8")))
        if np.shape(factors.channels) != (z_dim, 3) or np.shape(factors.bias) != (3,):
            raise ValueError(f"expected factors for {z_dim} latent channels")
    return factors


def write_factors(folder: Path, factors: PreviewFactors) -> Path:
    """Writes preview factors into a model's folder, and returns the file's path."""
    return _write(folder / FACTORS_FILE, asdict(factors))


def find_ratios(folder: Path) -> MagRatios | None:
    """Returns the MagCache ratios of the model in a folder, or None if the model is not calibrated.

    Raises:
        ModelCorrupted: The ratios can't be read.
    """
    path = folder / RATIOS_FILE
    if not path.is_file():
        return None
    with _reporting_damage(RATIOS_FILE, command="calibrate"):
        found = json.loads(path.read_text("utf-8"))
        ratios = {str(name): [float(ratio) for ratio in values] for name, values in found.items()}
        if not all(ratios.values()):
            raise ValueError("an expert has no ratios")
    return ratios


def write_ratios(folder: Path, ratios: MagRatios) -> Path:
    """Writes MagCache ratios into a model's folder, and returns the file's path."""
    return _write(folder / RATIOS_FILE, ratios)


@contextmanager
def _reporting_damage(name: str, *, command: str) -> Iterator[None]:
    """Raises ModelCorrupted for a file that can't be read. `command` is the one that writes the file again."""
    try:
        yield
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        raise ModelCorrupted(
            f"The model's {name} can't be used: {find_reason(exc)}.",
            suggestions=[f"Remove the file, or run wan22 {command} again."],
        ) from exc


def _write(path: Path, content: Any) -> Path:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content), "utf-8")
    return path
