"""Architecture of a model: its components without weights, built on the meta device."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import UMT5Config, UMT5EncoderModel

import configs
from wan22_bridge.builtin import find_parts
from wan22_bridge.catalogue import ModelSpec, SourceKind
from wan22_bridge.errors import ModelCorrupted
from wan22_bridge.experts import Expert
from wan22_bridge.models.gguf_header import UnreadableGguf, check_gguf

_CLASSES = {
    "transformer": "WanTransformer3DModel",
    "vae": "AutoencoderKLWan",
    "text_encoder": "UMT5EncoderModel",
    "scheduler": "UniPCMultistepScheduler",
}
"""Expected class of each component in model_index.json."""
_SUGGESTIONS = ["Download the model again.", "Check that the model's folder is in diffusers' format."]


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """Configs of a model's components, as in diffusers and transformers."""

    experts: int
    """Number of experts: 2 if a noise boundary divides the steps between two transformers of one shape, else 1."""
    expand_timesteps: bool
    """Whether each token has a timestep of its own, as in TI2V-5B."""
    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    gguf_bytes: int | None = None
    """Size of the larger expert's .gguf file. None if the experts are in the safetensors format."""

    def build_transformer(self, *, num_layers: int | None = None) -> WanTransformer3DModel:
        """Builds an expert on the meta device, with all its layers or with `num_layers`."""
        config = dict(self.transformer) | ({} if num_layers is None else {"num_layers": num_layers})
        with torch.device("meta"):
            return WanTransformer3DModel.from_config(config).eval()

    def build_vae(self) -> AutoencoderKLWan:
        """Builds the VAE on the meta device."""
        z_dim = self.vae["z_dim"]
        statistics = {"latents_mean": [0.0] * z_dim, "latents_std": [1.0] * z_dim}
        with torch.device("meta"):
            return AutoencoderKLWan.from_config(dict(self.vae) | statistics).eval()

    def build_text_encoder(self) -> UMT5EncoderModel:
        """Builds the text encoder on the meta device."""
        with torch.device("meta"):
            return UMT5EncoderModel(UMT5Config(**self.text_encoder)).eval()


def find_architecture(spec: ModelSpec, folder: Path | None = None) -> Architecture:
    """Returns the architecture of a model.

    Args:
        spec: The model's catalogue entry.
        folder: The model's folder. None: the architecture is the published one, or that of the built-in model.

    Raises:
        ModelCorrupted: The folder's configs can't be read, or describe no Wan2.2 model.
    """
    if folder is not None:
        names = ("model_index.json", "vae", "text_encoder", *Expert)
        return _read_parts(spec, {name: folder / name for name in names})
    if spec.source_kind is SourceKind.BUILTIN:
        return _read_parts(spec, find_parts(spec.source_ref))
    return _published()[spec.type]


@cache
def _published() -> Mapping[str, Architecture]:
    """Returns the architectures of the published models, by their types."""
    data = yaml.safe_load(configs.architectures_file().read_text("utf-8"))["architectures"]
    return {name: Architecture(**entry) for name, entry in data.items()}


def _read_parts(spec: ModelSpec, parts: Mapping[str, Path]) -> Architecture:
    """Reads an architecture from a model's files and folders, given by their names in a model's folder."""
    index = _read_json(spec, parts["model_index.json"], "model_index.json")
    for name, expected in _CLASSES.items():
        found = index.get(name)
        if isinstance(found, list) and len(found) == 2 and found[1] in (expected, None):
            continue
        raise ModelCorrupted(
            f"The model_index.json of {spec.id} has {found!r:.80} as {name}. Expected is {expected}.",
            suggestions=["Use a Wan2.2 model in diffusers' format.", "Download the model again."],
        )
    return Architecture(
        experts=2 if (index.get(Expert.LOW_NOISE) or [None])[0] else 1,
        expand_timesteps=bool(index.get("expand_timesteps")),
        gguf_bytes=_weigh_gguf(spec, [parts[name] for name in Expert if name in parts and parts[name].is_dir()]),
        **{
            name: _read_json(spec, parts[name] / "config.json", f"{name}/config.json")
            for name in ("transformer", "vae", "text_encoder")
        },
    )


def find_gguf(expert_folder: Path) -> Path | None:
    """Returns the .gguf file in an expert's folder, or None if there is none."""
    return next(iter(sorted(expert_folder.glob("*.gguf"))), None)


def _weigh_gguf(spec: ModelSpec, experts: list[Path]) -> int | None:
    """Returns the size of the largest .gguf file in the experts' folders, or None if there are no .gguf files.

    Raises:
        ModelCorrupted: A file's header is wrong, or a file is missing.
    """
    files = [find_gguf(path) for path in experts]
    if not any(files):
        return None
    if not all(files) or any(len(list(path.glob("*.gguf"))) > 1 for path in experts):
        raise ModelCorrupted(
            f"The folder of {spec.id} must hold one .gguf file for each expert, or no .gguf files.",
            suggestions=["Put the high-noise file into transformer/ and the low-noise file into transformer_2/."],
        )
    found = [file for file in files if file is not None]
    for file in found:
        try:
            check_gguf(file)
        except (OSError, UnreadableGguf) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise ModelCorrupted(
                f"The file {file.parent.name}/{file.name} of {spec.id} is unusable: {reason}.",
                suggestions=["Download the file again.", "Check that the file is for Wan2.2."],
            ) from exc
    return max(file.stat().st_size for file in found)


def _read_json(spec: ModelSpec, path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as exc:
        raise ModelCorrupted(
            f"The {name} of {spec.id} can't be loaded: {exc.strerror}.", suggestions=_SUGGESTIONS
        ) from exc
    except ValueError as exc:
        raise ModelCorrupted(
            f"The {name} of {spec.id} can't be loaded: the file is not valid JSON.", suggestions=_SUGGESTIONS
        ) from exc
    if not isinstance(content, dict):
        raise ModelCorrupted(
            f"The {name} of {spec.id} can't be loaded: the file is not a JSON object.", suggestions=_SUGGESTIONS
        )
    return content
