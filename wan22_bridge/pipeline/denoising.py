"""The denoising loop over diffusers' components, which yields after every step.

The loop computes what `WanPipeline.__call__` and `WanImageToVideoPipeline.__call__` of diffusers 0.42.1 compute, in the
same order, so that the bits are the same. The caller of the loop can stop it, write a snapshot or show a preview
between two steps.
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
from wan22_bridge.pipeline.samplers import Sampler, make_sampler, restore_sampler, sampler_state
from wan22_bridge.pipeline.snapshots import Snapshot
from wan22_bridge.pipeline.text_cache import PROJECTION_REUSE_MAX_TOKENS, reusing_text_projections
from wan22_bridge.pipeline.velocity import GuidedVelocity, restore_image
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
    """Report of a completed step."""

    index: int
    """Number of the step, from 0."""
    total: int
    """Steps of the whole run."""
    expert: Expert
    """Expert that predicted the velocity."""
    sigma: float
    """Noise level before the step."""
    seconds: float
    """Wall-clock time of the step."""


class Denoising:
    """One run of the loop.

    Iterate `steps` to the end, then read `latents_BCTHW`. Between two steps, `snapshot` and `estimate` are available.
    """

    def __init__(
        self,
        model: LoadedModel,
        params: GenerationParams,
        conditioning: Conditioning,
        resume_from: Snapshot | None = None,
        loras: LoraRack | None = None,
    ) -> None:
        """Prepares the first step, or the step after a snapshot of the same computation.

        Args:
            model: the loaded model.
            params: the request.
            conditioning: the run's inputs.
            resume_from: the snapshot to resume from; None starts at the first step.
            loras: the LoRAs of the run; None for a run without LoRAs.
        """
        self._loras = loras or LoraRack(Path(), ())
        self._model = model
        self._params = params
        self._conditioning = conditioning
        self._sampler = self._make_sampler()
        self._first = params.steps - params.steps_to_run
        """Sampler step to start at: video-to-video skips the first steps, because its latents are less noisy."""
        self._estimate_from: tuple[torch.Tensor, torch.Tensor, float] | None = None
        # PAB has one cache for both guidance passes. As separate passes, each would reuse the other's attention.
        batched = model.plan.batched_guidance or params.step_cache is StepCache.PAB
        self._velocity = GuidedVelocity(model, conditioning, batched=batched)
        self.latents_BCTHW = conditioning.latents_BCTHW
        """Latents [1, z, T, H, W] in fp32."""
        self.steps_done = 0
        self.between_steps = True
        """Whether a snapshot can be taken: False while the sampler changes its state."""
        self._expert = Expert.HIGH_NOISE
        self._caching = StepCaching(params.step_cache, lambda: float(self._timestep(self.steps_done)))
        if resume_from is not None:
            restore_sampler(self._sampler, resume_from.scheduler, model.device)
            self.latents_BCTHW = resume_from.latents_BCTHW.to(model.device)
            self.steps_done, self._expert = resume_from.steps_done, resume_from.expert

    @torch.no_grad()
    def steps(self) -> Generator[DenoisingStep, None, None]:
        """Denoises and yields after every step; closing the generator stops the run there.

        Raises:
            GenerationFailed: the latents became NaN or infinite.
            InvalidRequest: a LoRA does not fit the model.
        """
        for name in self._lasting_experts():
            self._apply_loras(name, getattr(self._model.text, name))
        with reusing_text_projections(self._experts_for_text_reuse()):
            ranks, steps = self._model.ranks, self._steps()
            try:
                yield from steps if ranks is None else ranks.run(self._begin_message(), steps)
            finally:
                self._caching.stop()

    def snapshot(self) -> Snapshot:
        """Returns the state from which another process can resume the run.

        Call this only while `between_steps` is true and before `steps` has ended.
        """
        return Snapshot(
            steps_done=self.steps_done,
            expert=self._expert,
            latents_BCTHW=self.latents_BCTHW,
            scheduler=sampler_state(self._sampler, self._make_sampler()),
        )

    def estimate(self) -> torch.Tensor:
        """Returns the clean latents [1, z, T, H, W] as the last step predicts them: latents - sigma * velocity.

        Raises:
            ValueError: no step is done yet.
        """
        if self._estimate_from is None:
            raise ValueError("There is no estimate before the first step.")
        latents_BCTHW, velocity_BCTHW, sigma = self._estimate_from
        return restore_image(self._conditioning, latents_BCTHW - sigma * velocity_BCTHW)

    def _steps(self) -> Generator[DenoisingStep, None, None]:
        sampler = self._sampler
        for index in range(self.steps_done, self._params.steps_to_run):
            started = time.perf_counter()
            timestep = self._timestep(index)
            sigma = float(sampler.sigmas[self._first + index])
            expert = self._expert_at(index)
            velocity_BCTHW = self._velocity.predict(
                self._bring(expert), self.latents_BCTHW, timestep, self._params.guidance_on(expert)
            )
            self._estimate_from = self.latents_BCTHW, velocity_BCTHW, sigma
            self.between_steps = False
            self.latents_BCTHW = sampler.step(velocity_BCTHW, timestep, self.latents_BCTHW, return_dict=False)[0]
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
        self.latents_BCTHW = restore_image(self._conditioning, self.latents_BCTHW)

    def _begin_message(self) -> Begin:
        return Begin(
            params=self._params,
            conditioning=self._conditioning,
            snapshot=self.snapshot() if self.steps_done else None,
            loras=self._loras,
        )

    def _make_sampler(self) -> Sampler:
        sampler = make_sampler(self._params, self._model.device)
        if self._params.image is None and self._params.video is None:
            sampler.set_begin_index(0)
        return sampler

    def _timestep(self, index: int) -> torch.Tensor:
        timestep: torch.Tensor = self._sampler.timesteps[self._first + index]
        return timestep

    def _expert_at(self, index: int) -> Expert:
        """Returns the expert that runs a step: the low-noise expert for timesteps below the boundary."""
        ratio: float | None = self._model.text.config.boundary_ratio
        if ratio is not None and self._params.boundary_ratio is not None:
            ratio = self._params.boundary_ratio
        if ratio is None or bool(self._timestep(index) >= ratio * self._sampler.config.num_train_timesteps):
            return Expert.HIGH_NOISE
        return Expert.LOW_NOISE

    def _bring(self, name: Expert) -> WanTransformer3DModel:
        """Loads an expert onto the device, with the run's LoRAs and step cache."""
        expert: WanTransformer3DModel = self._model.bring(name)
        if not self._model.experts_stay:
            expert = self._apply_loras(name, expert)
        self._caching.use(expert, partial(self._expert_run, name))
        return expert

    def _apply_loras(self, name: Expert, module: WanTransformer3DModel) -> WanTransformer3DModel:
        """Returns the expert's module with exactly the run's LoRAs, rebuilt if its weights are streamed."""

        def apply(changed: WanTransformer3DModel) -> None:
            self._loras.use(changed, name)

        if self._model.experts_are_streamed and self._loras.has_other(module, name):
            module = self._model.rebuild(name, apply)
        else:
            apply(module)
        return module

    def _expert_run(self, name: Expert) -> ExpertRun:
        own = [index for index in range(self._params.steps_to_run) if self._expert_at(index) is name]
        done = sum(index < self.steps_done for index in own)
        return ExpertRun(total=len(own), done=done, mag_ratios=(self._model.mag_ratios or {}).get(name))

    def _lasting_experts(self) -> list[Expert]:
        """Returns the experts whose modules stay whole and in memory for the whole run."""
        if not self._model.experts_stay:
            return []
        return [name for name in Expert if getattr(self._model.text, name) is not None]

    def _experts_for_text_reuse(self) -> list[WanTransformer3DModel]:
        """Returns the experts whose text projections are worth their memory.

        Compiled experts are left out, because each run would compile them again for its own memoizing objects.
        """
        if self._model.plan.compiled:
            return []
        experts = [getattr(self._model.text, name) for name in self._lasting_experts()]
        tokens = math.prod(self.latents_BCTHW.shape[2:]) // (math.prod(experts[0].config.patch_size) if experts else 1)
        return experts if tokens <= PROJECTION_REUSE_MAX_TOKENS else []

    def _check_finite(self) -> None:
        # Checked after every step, because a GPU need not compute the remaining steps of a failed run.
        if not bool(torch.isfinite(self.latents_BCTHW).all()):
            raise GenerationFailed(
                f"The latents became NaN or infinite at step {self.steps_done} of {self._params.steps_to_run}, in the "
                f"{self._expert.label.replace('_', '-')} expert of {self._params.model}.",
                code="non_finite_latents",
                suggestions=["Lower the guidance scale.", "Set generator.quantization to none."],
            )
