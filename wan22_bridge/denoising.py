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

from wan22_bridge.architecture import EXPERTS
from wan22_bridge.caching import ExpertRun, StepCaching
from wan22_bridge.conditioning import Conditioning
from wan22_bridge.errors import GenerationFailed
from wan22_bridge.loras import LoraRack
from wan22_bridge.model import LoadedModel
from wan22_bridge.ranks.channel import Begin
from wan22_bridge.reuse import WORTHWHILE_TOKENS, text_computed_once
from wan22_bridge.schedulers import Scheduler, restore_scheduler, scheduler_state, set_scheduler
from wan22_bridge.snapshots import Snapshot
from wan22_bridge.types import GenerationParams, StepCache

HIGH_NOISE, LOW_NOISE = "high_noise", "low_noise"


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoisingStep:
    """One step that is done."""

    index: int
    """0 for the first."""
    total: int
    expert: str
    """`high_noise` or `low_noise`."""
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
        self._expert = HIGH_NOISE
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
        for high_noise, expert in zip((True, False), self._staying_experts(), strict=False):
            self._wear_loras(expert, high_noise)
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
            high_noise = self._is_high_noise(index)
            velocity = self._velocity(timestep, high_noise)
            self._estimate_from = self.latents_BCTHW, velocity, sigma
            self.between_steps = False
            self.latents_BCTHW = scheduler.step(velocity, timestep, self.latents_BCTHW, return_dict=False)[0]
            self.between_steps = True
            self.steps_done, self._expert = index + 1, HIGH_NOISE if high_noise else LOW_NOISE
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

    def _wear_loras(self, expert: WanTransformer3DModel, high_noise: bool) -> WanTransformer3DModel:
        """The expert, with the run's LoRAs and no other."""

        def put_on(changed: WanTransformer3DModel) -> None:
            self._loras.use(changed, high_noise=high_noise)

        if self._model.experts_are_streamed and self._loras.has_other(expert, high_noise=high_noise):
            expert = self._model.rebuild(EXPERTS[0] if high_noise else EXPERTS[1], put_on)
        else:
            put_on(expert)
        return expert

    def _timestep(self, index: int) -> torch.Tensor:
        timestep: torch.Tensor = self._scheduler.timesteps[self._first + index]
        return timestep

    def _is_high_noise(self, index: int) -> bool:
        """Whether a step is the high-noise expert's, or the only one's."""
        ratio: float | None = self._model.text.config.boundary_ratio
        return ratio is None or bool(self._timestep(index) >= ratio * self._scheduler.config.num_train_timesteps)

    def _expert_run(self, high_noise: bool) -> ExpertRun:
        own = [index for index in range(self._params.steps_to_run) if self._is_high_noise(index) == high_noise]
        ratios = self._model.mag_ratios or {}
        return ExpertRun(
            total=len(own),
            done=sum(index < self.steps_done for index in own),
            mag_ratios=ratios.get(EXPERTS[0] if high_noise else EXPERTS[1]),
        )

    def _staying_experts(self) -> list[WanTransformer3DModel]:
        """The experts, where they are whole modules that last as long as the run."""
        if not self._model.experts_stay:
            return []
        return [expert for name in EXPERTS if (expert := getattr(self._model.text, name)) is not None]

    def _experts_to_reuse(self) -> list[WanTransformer3DModel]:
        """Those for which remembering the text's part is worth its memory.

        Not compiled ones: what remembers is another object in each run, and each would be compiled for anew.
        """
        if self._model.plan.compiled:
            return []
        experts = self._staying_experts()
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

    def _velocity(self, timestep: torch.Tensor, high_noise: bool) -> torch.Tensor:
        """What the step's expert predicts, guided."""
        model, params, conditioning = self._model, self._params, self._conditioning
        expert = model.bring(EXPERTS[0] if high_noise else EXPERTS[1])
        if not model.experts_stay:
            expert = self._wear_loras(expert, high_noise)
        self._caching.use(expert, partial(self._expert_run, high_noise))
        scale = params.guidance_scale
        if not high_noise and params.guidance_scale_2 is not None:
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
                f"{self._expert.replace('_', '-')} expert of {self._params.model}.",
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
