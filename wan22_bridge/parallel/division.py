"""Division of an expert's forward pass over the ranks of a group: each rank computes a part of the video's tokens.

Around self-attention, diffusers exchanges tokens for heads, so that each rank has all tokens of some heads (Ulysses,
https://arxiv.org/abs/2309.14509). This module itself splits the tokens before the first block and gathers them after
the last layer, because `enable_parallelism` of diffusers 0.42.1

- needs an accelerator, so it cannot run on a CPU;
- splits inside the hook of a step cache on the first block, so that the cache would compare a part with the whole;
- gathers inside the layer that a LoRA puts around the last layer;
- cannot gather parts of unequal length over gloo.

Tensor names carry their axes: B batch, S all tokens or this rank's tokens, D width, X any.
"""

import math
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as functional
from diffusers import ContextParallelConfig, WanTransformer3DModel
from diffusers.hooks.first_block_cache import FBCHeadBlockHook
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import init_device_mesh

from wan22_bridge.errors import ConfigurationError


class Division:
    """This process's place in a group, and the division of the experts that run in the group."""

    def __init__(self, degree: int, rank: int) -> None:
        """Takes the number of ranks in the group and this process's rank, from 0."""
        self.degree = degree
        self._rank = rank
        self._context = ContextParallelConfig(ulysses_degree=degree)
        self._config = ParallelConfig(context_parallel_config=self._context)

    def open_store(self, port: int = 0) -> TCPStore:
        """Opens the store where the ranks meet. Rank 0 serves the store, on a free port if `port` is 0."""
        return TCPStore("127.0.0.1", port, self.degree, is_master=self._rank == 0, wait_for_workers=False)

    def join(self, device: str, store: TCPStore, timeout_seconds: float) -> None:
        """Joins the group and returns when all ranks have joined. Experts divided before now run in the new group.

        Args:
            device: `cuda` or `cpu`.
            store: the store that `open_store` returned.
            timeout_seconds: time limit of each collective operation.
        """
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # All ranks are on this machine.
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")  # Otherwise a lost rank also ends the leader.
        dist.init_process_group(
            "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
            store=store,
            rank=self._rank,
            world_size=self.degree,
            timeout=timedelta(seconds=timeout_seconds),
        )
        mesh = init_device_mesh(device, (1, self.degree), mesh_dim_names=("ring", "ulysses"))
        self._config.setup(self._rank, self.degree, torch.device(device), mesh=mesh)

    def divide(self, expert: WanTransformer3DModel) -> None:
        """Divides an expert's forward passes. All ranks must call the expert at the same time, with equal inputs.

        Raises:
            ConfigurationError: the expert's attention backend does not support the division.
        """
        for module in expert.modules():
            processor = getattr(module, "processor", None)
            if processor is not None and hasattr(processor, "_parallel_config"):
                _check_backend(processor._attention_backend)
                processor._parallel_config = self._config
        _DividedPass(expert, self)

    def prepare_pass(self, tokens: int) -> None:
        """Chooses how the next pass exchanges its tokens. Parts of equal length take fewer messages."""
        self._context.ulysses_anything = tokens % self.degree != 0

    def split(self, tokens_BSX: torch.Tensor) -> torch.Tensor:
        """Returns this rank's part of a tensor, split along its second axis."""
        return tokens_BSX.tensor_split(self.degree, dim=1)[self._rank]

    def gather(self, part_BSD: torch.Tensor, tokens: int) -> torch.Tensor:
        """Returns the tensor of all `tokens`, gathered from all ranks' parts."""
        missing = math.ceil(tokens / self.degree) - part_BSD.shape[1]
        padded = functional.pad(part_BSD, (0, 0, 0, missing)).contiguous()
        gathered = [torch.empty_like(padded) for _ in range(self.degree)]
        dist.all_gather(gathered, padded)
        lengths = [len(part) for part in torch.arange(tokens).tensor_split(self.degree)]
        return torch.cat([part[:, :length] for part, length in zip(gathered, lengths, strict=True)], dim=1)


class _DividedPass:
    """Hooks that divide one expert's passes.

    They are torch's hooks, because torch's hooks run outside of the wrappers of diffusers and peft.
    """

    def __init__(self, expert: WanTransformer3DModel, division: Division) -> None:
        self._division = division
        self._tokens = 0
        self._last_layer: torch.nn.Module | None = None
        self._last_layer_hook: Any = None
        expert.register_forward_pre_hook(self._begin, with_kwargs=True)
        expert.rope.register_forward_hook(lambda _module, _given, axes: tuple(map(division.split, axes)))
        expert.blocks[0].register_forward_pre_hook(lambda _module, given: (division.split(given[0]), *given[1:]))

    def _begin(
        self, expert: WanTransformer3DModel, given: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        patch = expert.config.patch_size
        self._tokens = math.prod(
            size // side for size, side in zip(named["hidden_states"].shape[2:], patch, strict=True)
        )
        self._division.prepare_pass(self._tokens)
        self._hook_last_layer(expert.proj_out)
        _decide_as_group(expert.blocks[0])
        timestep = named["timestep"]
        return given, {**named, "timestep": timestep if timestep.ndim == 1 else self._division.split(timestep)}

    def _hook_last_layer(self, layer: torch.nn.Module) -> None:
        """Hooks the last layer, which is another module after a LoRA was put on it or taken off."""
        if layer is self._last_layer:
            return
        if self._last_layer_hook is not None:
            self._last_layer_hook.remove()
        self._last_layer = layer
        self._last_layer_hook = layer.register_forward_hook(
            lambda _module, _given, part: self._division.gather(part, self._tokens)
        )


class _GroupChange:
    """Decision of a first-block cache from the parts of all ranks, so that all ranks decide alike.

    A rank that skipped the blocks alone would make the other ranks wait for it. A single part also changes differently
    from the whole. Follows `FBCHeadBlockHook._should_compute_remaining_blocks` of diffusers 0.42.1.
    """

    def __init__(self, hook: FBCHeadBlockHook) -> None:
        self._state_manager = hook.state_manager
        self._threshold = hook.threshold

    def __call__(self, residual_BSD: torch.Tensor) -> bool:
        """Returns whether the first block's residual changed so much that the other blocks must be computed."""
        previous_BSD = self._state_manager.get_state().head_block_residual
        if previous_BSD is None:
            return True
        change = (residual_BSD - previous_BSD).abs().sum(dtype=torch.float32)
        sums = torch.stack([change, previous_BSD.abs().sum(dtype=torch.float32)])
        dist.all_reduce(sums)
        return bool(sums[0] > self._threshold * sums[1])


def _decide_as_group(first_block: torch.nn.Module) -> None:
    """Replaces the decision of a first-block cache on this block, if there is one."""
    registry = getattr(first_block, "_diffusers_hook", None)
    for hook in registry.hooks.values() if registry is not None else ():
        if isinstance(hook, FBCHeadBlockHook) and not isinstance(hook._should_compute_remaining_blocks, _GroupChange):
            hook._should_compute_remaining_blocks = _GroupChange(hook)


def _check_backend(backend: AttentionBackendName | None) -> None:
    if backend is None or _AttentionBackendRegistry._is_context_parallel_available(AttentionBackendName(backend)):
        return
    supported = ", ".join(sorted(_AttentionBackendRegistry._supports_context_parallel))
    raise ConfigurationError(
        f"The attention backend {AttentionBackendName(backend).value!r} cannot run on several GPUs.",
        param="generator.attention_backend",
        suggestions=[f"Use one of {supported}.", "Or set generator.parallel_degree to 1."],
    )
