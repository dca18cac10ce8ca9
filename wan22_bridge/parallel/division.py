"""An expert's forward pass, divided over the processes of a group: each has a part of the video's tokens.

Diffusers exchanges tokens for heads around self-attention, where each process has all tokens of some heads (Ulysses,
https://arxiv.org/abs/2309.14509). What this module does itself is to split the tokens before the first block and to
gather them after the last layer, where `enable_parallelism` of diffusers 0.42.1

- needs an accelerator, and so can't be run where there is none;
- splits inside of what a step cache puts around the first block, so that the cache compares a part with the whole;
- gathers inside of what a LoRA puts around the last layer;
- can't gather parts of unequal length over gloo.
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
    """This process's place in a group, and what it does to the experts that are run in it."""

    def __init__(self, degree: int, rank: int) -> None:
        """`degree` processes in all; this is the one of number `rank`, from 0."""
        self.degree = degree
        self._rank = rank
        self._context = ContextParallelConfig(ulysses_degree=degree)
        self._config = ParallelConfig(context_parallel_config=self._context)

    def open_store(self, port: int = 0) -> TCPStore:
        """Where the processes meet, on this machine: rank 0 opens it on a free port, the others come to that."""
        return TCPStore("127.0.0.1", port, self.degree, is_master=self._rank == 0, wait_for_workers=False)

    def join(self, device: str, store: TCPStore, timeout_seconds: float) -> None:
        """Joins the others; returns when all are there. What was divided before is run in the new group."""
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # what they exchange stays on this machine
        os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")  # else a lost rank ends the leader, too
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
        """Makes an expert run in parts: every process of the group has to call it at the same time, with equal inputs.

        Raises:
            ConfigurationError: its attention backend can't be divided.
        """
        for module in expert.modules():
            processor = getattr(module, "processor", None)
            if processor is not None and hasattr(processor, "_parallel_config"):
                _check_backend(processor._attention_backend)
                processor._parallel_config = self._config
        _DividedPass(expert, self)

    def prepare(self, tokens: int) -> None:
        """Before a pass: parts of equal length are exchanged in fewer messages."""
        self._context.ulysses_anything = tokens % self.degree != 0

    def part(self, tokens_BSX: torch.Tensor) -> torch.Tensor:
        """This process's part of a tensor whose second axis is the tokens."""
        return tokens_BSX.tensor_split(self.degree, dim=1)[self._rank]

    def whole(self, part_BSD: torch.Tensor, tokens: int) -> torch.Tensor:
        """All processes' parts, put together."""
        missing = math.ceil(tokens / self.degree) - part_BSD.shape[1]
        padded = functional.pad(part_BSD, (0, 0, 0, missing)).contiguous()
        gathered = [torch.empty_like(padded) for _ in range(self.degree)]
        dist.all_gather(gathered, padded)
        lengths = [len(part) for part in torch.arange(tokens).tensor_split(self.degree)]
        return torch.cat([part[:, :length] for part, length in zip(gathered, lengths, strict=True)], dim=1)


class _DividedPass:
    """The hooks of one expert. They are torch's own, which run outside of those that diffusers and peft put on."""

    def __init__(self, expert: WanTransformer3DModel, division: Division) -> None:
        self._division = division
        self._tokens = 0
        self._last_layer: torch.nn.Module | None = None
        self._last_layers_hook: Any = None
        expert.register_forward_pre_hook(self._begin, with_kwargs=True)
        expert.rope.register_forward_hook(lambda _module, _given, axes: tuple(map(division.part, axes)))
        expert.blocks[0].register_forward_pre_hook(lambda _module, given: (division.part(given[0]), *given[1:]))

    def _begin(
        self, expert: WanTransformer3DModel, given: tuple[Any, ...], named: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        patch = expert.config.patch_size
        self._tokens = math.prod(
            size // side for size, side in zip(named["hidden_states"].shape[2:], patch, strict=True)
        )
        self._division.prepare(self._tokens)
        self._hook_last_layer(expert.proj_out)
        _judge_whole_change(expert.blocks[0])
        timestep = named["timestep"]
        return given, {**named, "timestep": timestep if timestep.ndim == 1 else self._division.part(timestep)}

    def _hook_last_layer(self, layer: torch.nn.Module) -> None:
        """A LoRA may have come around it, or gone, since the pass before."""
        if layer is self._last_layer:
            return
        if self._last_layers_hook is not None:
            self._last_layers_hook.remove()
        self._last_layer = layer
        self._last_layers_hook = layer.register_forward_hook(
            lambda _module, _given, part: self._division.whole(part, self._tokens)
        )


class _WholeChange:
    """What a first-block cache skips by, told from all processes' parts: each of them comes to the same choice.

    Who skips alone would let the others wait; and each part by itself changes otherwise than the whole does.
    Follows `FBCHeadBlockHook._should_compute_remaining_blocks` of diffusers 0.42.1.
    """

    def __init__(self, hook: FBCHeadBlockHook) -> None:
        self._state_manager = hook.state_manager
        self._threshold = hook.threshold

    def __call__(self, residual_BSD: torch.Tensor) -> bool:
        """Whether the first block's residual has changed enough for the other blocks to be computed."""
        previous_BSD = self._state_manager.get_state().head_block_residual
        if previous_BSD is None:
            return True
        change = (residual_BSD - previous_BSD).abs().sum(dtype=torch.float32)
        sums = torch.stack([change, previous_BSD.abs().sum(dtype=torch.float32)])
        dist.all_reduce(sums)
        return bool(sums[0] > self._threshold * sums[1])


def _judge_whole_change(first_block: torch.nn.Module) -> None:
    registry = getattr(first_block, "_diffusers_hook", None)
    for hook in registry.hooks.values() if registry is not None else ():
        if isinstance(hook, FBCHeadBlockHook) and not isinstance(hook._should_compute_remaining_blocks, _WholeChange):
            hook._should_compute_remaining_blocks = _WholeChange(hook)


def _check_backend(backend: AttentionBackendName | None) -> None:
    if backend is None or _AttentionBackendRegistry._is_context_parallel_available(AttentionBackendName(backend)):
        return
    able = ", ".join(sorted(_AttentionBackendRegistry._supports_context_parallel))
    raise ConfigurationError(
        f"The attention backend {AttentionBackendName(backend).value!r} can't be divided over GPUs.",
        param="generator.attention_backend",
        suggestions=[f"Use one of {able}.", "Or set generator.parallel_degree to 1."],
    )
