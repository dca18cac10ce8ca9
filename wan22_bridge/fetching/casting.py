"""Casts of downloaded fp32 weights to bf16, which halves their size on the disk."""

from dataclasses import replace
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import save_file

from wan22_bridge.fetching.manifest import Manifest, ModelFile, hash_file, write_manifest
from wan22_bridge.files import atomic_path


def cast_file(folder: Path, manifest: Manifest, file: ModelFile) -> Manifest:
    """Casts a file's fp32 weights to bf16, except those that a transformer always computes in fp32.

    A model that is loaded in bf16 is bit-identical from either file. If the process is killed, either the original or
    the cast file remains, and the manifest accepts both.

    Args:
        folder: Folder of the model.
        manifest: Manifest of the model.
        file: File to cast.

    Returns:
        The manifest with the cast file's size and checksum, which is also written to `folder`.
    """
    path = folder / file.path
    kept = WanTransformer3DModel._keep_in_fp32_modules if file.path.startswith("transformer") else ()
    with safe_open(path, "pt") as opened:
        metadata = opened.metadata()
        weights = {name: _cast(name, opened.get_tensor(name), kept) for name in opened.keys()}  # noqa: SIM118
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata)
        size, sha256 = temporary.stat().st_size, hash_file(temporary)
        manifest = manifest.with_file(replace(file, cast_size=size, cast_sha256=sha256))
        write_manifest(folder, manifest)
    return manifest


def _cast(name: str, weight: torch.Tensor, kept: tuple[str, ...] | list[str]) -> torch.Tensor:
    if weight.dtype is not torch.float32 or any(part in name.split(".") for part in kept):
        return weight
    return weight.to(torch.bfloat16)
