"""The samplers on offer, set to a model's flow shift; and the state of one, to carry on elsewhere."""

from typing import Any, TypeAlias

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

from wan22_bridge.options import SchedulerName
from wan22_bridge.types import GenerationParams

Scheduler: TypeAlias = UniPCMultistepScheduler | DPMSolverMultistepScheduler | FlowMatchEulerDiscreteScheduler

_TRAIN_TIMESTEPS = 1000


def make_scheduler(name: SchedulerName, flow_shift: float) -> Scheduler:
    """A scheduler of diffusers for a model that predicts the flow's velocity."""
    if name is SchedulerName.EULER:
        return FlowMatchEulerDiscreteScheduler(num_train_timesteps=_TRAIN_TIMESTEPS, shift=flow_shift)
    kind = UniPCMultistepScheduler if name is SchedulerName.UNIPC else DPMSolverMultistepScheduler
    scheduler: Scheduler = kind(
        num_train_timesteps=_TRAIN_TIMESTEPS,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
    )
    return scheduler


def set_scheduler(params: GenerationParams, device: torch.device) -> Scheduler:
    """The scheduler of a generation, set to its steps."""
    scheduler = make_scheduler(params.scheduler, params.flow_shift)
    scheduler.set_timesteps(params.steps, device=device)
    return scheduler


def add_noise(scheduler: Scheduler, latents_BCTHW: torch.Tensor, noise_BCTHW: torch.Tensor, first: int) -> torch.Tensor:
    """Clean latents as noisy as they are before step `first` of a scheduler that is set to its steps."""
    timestep = scheduler.timesteps[first : first + 1]
    noisy_BCTHW: torch.Tensor
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        noisy_BCTHW = scheduler.scale_noise(latents_BCTHW, timestep, noise_BCTHW)
    else:
        noisy_BCTHW = scheduler.add_noise(latents_BCTHW, noise_BCTHW, timestep)
    return noisy_BCTHW


def scheduler_state(scheduler: Scheduler, fresh: Scheduler) -> dict[str, Any]:
    """What has become different from a fresh scheduler that was set to the same steps: its history and its place."""
    before = vars(fresh)
    return {
        name: value for name, value in vars(scheduler).items() if name not in before or not _same(value, before[name])
    }


def restore_scheduler(scheduler: Scheduler, state: dict[str, Any], device: torch.device) -> None:
    """Puts a fresh scheduler, set to the same steps, where another was; its history goes to `device`."""
    for name, value in state.items():
        setattr(scheduler, name, _move(value, device))


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
