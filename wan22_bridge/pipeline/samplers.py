"""Samplers for models that predict the flow's velocity, and the state that moves a sampler to another process.

Diffusers calls samplers schedulers.
"""

from typing import Any, TypeAlias

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from wan22_bridge.options import SchedulerName
from wan22_bridge.types import GenerationParams

Sampler: TypeAlias = UniPCMultistepScheduler | DPMSolverMultistepScheduler | FlowMatchEulerDiscreteScheduler

_TRAIN_TIMESTEPS = 1000


def make_sampler(params: GenerationParams, device: torch.device) -> Sampler:
    """Returns a new sampler with the request's flow shift, set to the request's number of steps."""
    sampler = _make(params.scheduler, params.flow_shift)
    sampler.set_timesteps(params.steps, device=device)
    return sampler


def _make(name: SchedulerName, flow_shift: float) -> Sampler:
    if name is SchedulerName.EULER:
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=_TRAIN_TIMESTEPS, shift=flow_shift)
    kind = UniPCMultistepScheduler if name is SchedulerName.UNIPC else DPMSolverMultistepScheduler
    sampler: Sampler = kind(
        num_train_timesteps=_TRAIN_TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
    )
    return sampler


def add_noise(sampler: Sampler, latents_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, first: int) -> torch.Tensor:
    """Returns clean latents with the noise level that step `first` of the sampler expects."""
    timestep = sampler.timesteps[first : first + 1]
    noisy_BCTHW: torch.Tensor
    if isinstance(sampler, FlowMatchEulerDiscreteScheduler):
        noisy_BCTHW = sampler.scale_noise(latents_BCTHW, timestep, noise_BCTHW)
    else:
        noisy_BCTHW = sampler.add_noise(latents_BCTHW, noise_BCTHW, timestep)
    return noisy_BCTHW


def sampler_state(sampler: Sampler, fresh: Sampler) -> dict[str, Any]:
    """Returns the attributes that differ from those of a fresh sampler with the same steps: history and position."""
    before = vars(fresh)
    return {
        name: value for name, value in vars(sampler).items() if name not in before or not _same(value, before[name])
    }


def restore_sampler(sampler: Sampler, state: dict[str, Any], device: torch.device) -> None:
    """Applies the state from `sampler_state` to a fresh sampler with the same steps, and moves tensors to `device`."""
    for name, value in state.items():
        setattr(sampler, name, _move(value, device))


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(_same(*pair) for pair in zip(left, right, strict=True))
    return type(left) is type(right) and not isinstance(left, torch.Tensor) and bool(left == right)


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return [_move(item, device) for item in value] if isinstance(value, list) else value
