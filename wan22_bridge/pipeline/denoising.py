"""The denoising loop over diffusers' components, a step at a time.

It computes what `WanPipeline.__call__` and `WanImageToVideoPipeline.__call__` of diffusers 0.42.1 compute, in the
same order, so that the bits are the same. Owning the loop means that whoever iterates it can stop between steps.
"""

import math
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel

from wan22_bridge.errors import GenerationFailed
from wan22_bridge.experts import Expert
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.models.loras import LoraRack
from wan22_bridge.options import StepCache
from wan22_bridge.pipeline.caching import ExpertRun, StepCaching
from wan22_bridge.pipeline.conditioning import Conditioning
from wan22_bridge.pipeline.samplers import Scheduler, restore_scheduler, scheduler_state, set_scheduler
from wan22_bridge.pipeline.snapshots import Snapshot
from wan22_bridge.pipeline.text_cache import WORTHWHILE_TOKENS, text_computed_once
from wan22_bridge.types import GenerationParams


@dataclass(frozen=True, kw_only=True, slots=True)
class Begin:
    """The message to a follower to start a run, or to resume it from a snapshot. The follower answers it."""

    params: GenerationParams
    conditioning: Conditioning
    snapshot: Snapshot | None
    loras: LoraRack


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoisingStep:
    """One step that is done."""

    index: int
    """0 for the first."""
    total: int
    expert: Expert
    """The expert that made the step."""
    sigma: float
    seconds: float


class Denoising:
    """One run of the loop. Iterate `steps` to its end, then take `latents_BCTHW`; between steps, take a `snapshot`."""

    def __init__(
        self,
        model: LoadedModel,
        params: GenerationParams,
        conditioning: Conditioning,
        resume_from: Snapshot | None = None,
        loras: LoraRack | None = None,
    ) -> None:
        """Stands before the first step, or, with a snapshot of the same computation, where that was taken."""
        self._loras = loras or LoraRack(Path(), ())
        self._model = model
        self._params = params
        self._conditioning = conditioning
        self._scheduler = self._fresh_scheduler()
        self._first = params.steps - params.steps_to_run
        """With a video, the steps before this one are not run: its latents are noisy as after them."""
        self._estimate_from: tuple[torch.Tensor, torch.Tensor, float] | None = None
        self._both_embeds_BLD: torch.Tensor | None = None
        # This cache has one memory for both passes: one after the other, each would be given what is the other's.
        batched = model.plan.batched_guidance or params.step_cache is StepCache.PAB
        if batched and conditioning.negative_embeds_BLD is not None:
            self._both_embeds_BLD = torch.cat([conditioning.prompt_embeds_BLD, conditioning.negative_embeds_BLD])
        self.latents_BCTHW = conditioning.latents_BCTHW
        """The latents [1, z, T, H, W] in fp32."""
        self.steps_done = 0
        self.between_steps = True
        """Whether a snapshot can be taken: not while the scheduler changes its state."""
        self._expert = Expert.HIGH_NOISE
        self._caching = StepCaching(params.step_cache, lambda: float(self._timestep(self.steps_done)))
        if resume_from is not None:
            restore_scheduler(self._scheduler, resume_from.scheduler, model.device)
            self.latents_BCTHW = resume_from.latents_BCTHW.to(model.device)
            self.steps_done, self._expert = resume_from.steps_done, resume_from.expert

    @torch.no_grad()
    def steps(self) -> Generator[DenoisingStep, None, None]:
        """Denoises, yielding after every step; closing the generator stops it there.

        Raises:
            GenerationFailed: the latents became NaN or infinite.
            InvalidRequest: a LoRA is for another model.
        """
        for name in self._staying_experts():
            self._wear_loras(name, getattr(self._model.text, name))
        with text_computed_once(self._experts_to_reuse()):
            ranks, steps = self._model.ranks, self._steps()
            try:
                yield from steps if ranks is None else ranks.run(self._for_followers(), steps)
            finally:
                self._caching.stop()

    def _steps(self) -> Generator[DenoisingStep, None, None]:
        conditioning, scheduler = self._conditioning, self._scheduler
        for index in range(self.steps_done, self._params.steps_to_run):
            started = time.perf_counter()
            timestep = self._timestep(index)
            sigma = float(scheduler.sigmas[self._first + index])
            expert = self._expert_of(index)
            velocity = self._velocity(timestep, expert)
            self._estimate_from = self.latents_BCTHW, velocity, sigma
            self.between_steps = False
            self.latents_BCTHW = scheduler.step(velocity, timestep, self.latents_BCTHW, return_dict=False)[0]
            self.between_steps = True
            self.steps_done, self._expert = index + 1, expert
            self._check_finite()
            yield DenoisingStep(
                index=index,
                total=self._params.steps_to_run,
                expert=self._expert,
                sigma=sigma,
                seconds=time.perf_counter() - started,
            )
        if conditioning.noise_mask_BCTHW is not None:
            self.latents_BCTHW = _keep_image(conditioning, self.latents_BCTHW)

    def _for_followers(self) -> Begin:
        return Begin(
            params=self._params,
            conditioning=self._conditioning,
            snapshot=self.snapshot() if self.steps_done else None,
            loras=self._loras,
        )

    def _wear_loras(self, name: Expert, module: WanTransformer3DModel) -> WanTransformer3DModel:
        """The expert's module, with the run's LoRAs and no other."""

        def put_on(changed: WanTransformer3DModel) -> None:
            self._loras.use(changed, name)

        if self._model.experts_are_streamed and self._loras.has_other(module, name):
            module = self._model.rebuild(name, put_on)
        else:
            put_on(module)
        return module

    def _timestep(self, index: int) -> torch.Tensor:
        timestep: torch.Tensor = self._scheduler.timesteps[self._first + index]
        return timestep

    def _expert_of(self, index: int) -> Expert:
        """The expert that makes a step."""
        ratio: float | None = self._model.text.config.boundary_ratio
        if ratio is None or bool(self._timestep(index) >= ratio * self._scheduler.config.num_train_timesteps):
            return Expert.HIGH_NOISE
        return Expert.LOW_NOISE

    def _expert_run(self, name: Expert) -> ExpertRun:
        own = [index for index in range(self._params.steps_to_run) if self._expert_of(index) is name]
        ratios = self._model.mag_ratios or {}
        return ExpertRun(
            total=len(own),
            done=sum(index < self.steps_done for index in own),
            mag_ratios=ratios.get(name),
        )

    def _staying_experts(self) -> list[Expert]:
        """The experts whose modules are whole and last as long as the run."""
        if not self._model.experts_stay:
            return []
        return [name for name in Expert if getattr(self._model.text, name) is not None]

    def _experts_to_reuse(self) -> list[WanTransformer3DModel]:
        """Those for which remembering the text's part is worth its memory.

        Not compiled ones: what remembers is another object in each run, and each would be compiled for anew.
        """
        if self._model.plan.compiled:
            return []
        experts = [getattr(self._model.text, name) for name in self._staying_experts()]
        tokens = math.prod(self.latents_BCTHW.shape[2:]) // (math.prod(experts[0].config.patch_size) if experts else 1)
        return experts if tokens <= WORTHWHILE_TOKENS else []

    def snapshot(self) -> Snapshot:
        """What it takes to go on from here in another process: before `steps` has ended, and `between_steps`."""
        return Snapshot(
            steps_done=self.steps_done,
            expert=self._expert,
            latents_BCTHW=self.latents_BCTHW,
            scheduler=scheduler_state(self._scheduler, self._fresh_scheduler()),
        )

    def estimate(self) -> torch.Tensor:
        """What the last step took the clean latents [1, z, T, H, W] to be: noisy latents less sigma times velocity.

        Raises:
            ValueError: no step was made yet.
        """
        if self._estimate_from is None:
            raise ValueError("There is no estimate before the first step.")
        latents_BCTHW, velocity_BCTHW, sigma = self._estimate_from
        estimate_BCTHW = latents_BCTHW - sigma * velocity_BCTHW
        if self._conditioning.noise_mask_BCTHW is not None:
            estimate_BCTHW = _keep_image(self._conditioning, estimate_BCTHW)
        return estimate_BCTHW

    def _fresh_scheduler(self) -> Scheduler:
        scheduler = set_scheduler(self._params, self._model.device)
        if self._params.image is None and self._params.video is None:
            scheduler.set_begin_index(0)
        return scheduler

    def _velocity(self, timestep: torch.Tensor, name: Expert) -> torch.Tensor:
        """What the step's expert predicts, guided."""
        model, params, conditioning = self._model, self._params, self._conditioning
        expert = model.bring(name)
        if not model.experts_stay:
            expert = self._wear_loras(name, expert)
        self._caching.use(expert, partial(self._expert_run, name))
        scale = params.guidance_scale
        if name is Expert.LOW_NOISE and params.guidance_scale_2 is not None:
            scale = params.guidance_scale_2
        inputs, timesteps = _model_inputs(model, conditioning, self.latents_BCTHW, timestep)
        if conditioning.negative_embeds_BLD is None:
            return _predict(expert, "cond", inputs, timesteps, conditioning.prompt_embeds_BLD)
        if self._both_embeds_BLD is not None:
            both = torch.cat([inputs, inputs]), torch.cat([timesteps, timesteps])
            velocity, unguided = _predict(expert, "cond", *both, self._both_embeds_BLD).chunk(2)
        else:
            velocity = _predict(expert, "cond", inputs, timesteps, conditioning.prompt_embeds_BLD)
            unguided = _predict(expert, "uncond", inputs, timesteps, conditioning.negative_embeds_BLD)
        return unguided + scale * (velocity - unguided)

    def _check_finite(self) -> None:
        """At every step: what is lost is lost, and a GPU need not compute on."""
        if not bool(torch.isfinite(self.latents_BCTHW).all()):
            raise GenerationFailed(
                f"The latents became NaN or infinite at step {self.steps_done} of {self._params.steps_to_run}, in the "
                f"{self._expert.label.replace('_', '-')} expert of {self._params.model}.",
                code="non_finite_latents",
                suggestions=["Use a lower guidance scale.", "Use no quantisation, or another dtype."],
            )


def _model_inputs(
    model: LoadedModel, conditioning: Conditioning, latents_BCTHW: torch.Tensor, timestep: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The transformer's input and its timestep: one for all tokens, or with TI2V one for each."""
    dtype = model.dtype
    if not model.text.config.expand_timesteps:
        inputs = latents_BCTHW
        if conditioning.image_BCTHW is not None:
            inputs = torch.cat([latents_BCTHW, conditioning.image_BCTHW], dim=1)
        return inputs.to(dtype), timestep.expand(latents_BCTHW.shape[0])
    if conditioning.noise_mask_BCTHW is None:
        mask_THW = torch.ones(latents_BCTHW.shape[2:], dtype=torch.float32, device=latents_BCTHW.device)
        inputs = latents_BCTHW
    else:
        mask_THW = conditioning.noise_mask_BCTHW[0][0]
        inputs = _keep_image(conditioning, latents_BCTHW)
    per_token = (mask_THW[:, ::2, ::2] * timestep).flatten()
    return inputs.to(dtype), per_token.unsqueeze(0).expand(latents_BCTHW.shape[0], -1)


def _keep_image(conditioning: Conditioning, latents_BCTHW: torch.Tensor) -> torch.Tensor:
    """The latents with the encoded image in its place."""
    mask, image = conditioning.noise_mask_BCTHW, conditioning.image_BCTHW
    assert mask is not None
    assert image is not None
    return (1 - mask) * image + mask * latents_BCTHW


def _predict(
    expert: WanTransformer3DModel,
    context: str,
    inputs: torch.Tensor,
    timesteps: torch.Tensor,
    text_embeds_BLD: torch.Tensor,
) -> torch.Tensor:
    """One forward pass: the velocity, shaped as the latents."""
    with expert.cache_context(context):
        velocity: torch.Tensor = expert(
            hidden_states=inputs, timestep=timesteps, encoder_hidden_states=text_embeds_BLD, return_dict=False
        )[0]
    return velocity
