"""Training pairs from a teacher model, for distillation to a few unguided steps."""

from dataclasses import replace

import torch
from diffusers import WanTransformer3DModel

from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.tiny_training.flow_training import BATCH, TextReader, few_tokens, in_bf16
from wan22_bridge.tiny_training.latents import Batch, LatentPool
from wan22_bridge.tiny_training.networks import BOUNDARY_RATIO, new_scheduler


class TeacherPool:
    """Pairs of noise and the latents that a teacher generates from it, with guidance and all its steps.

    Flow matching on such pairs straightens the paths from noise to video. Few steps then follow the paths without
    guidance: "Flow Straight and Fast", Liu et al., 2022.
    """

    def __init__(
        self,
        experts: list[WanTransformer3DModel],
        text: TextReader,
        scenes: LatentPool,
        spec: ModelSpec,
        seed: int,
        *,
        batches: int,
    ) -> None:
        """Generates all pairs.

        Args:
            experts: One or two experts of the teacher.
            text: Text encoder of the teacher.
            scenes: Source of the prompts, images and noise.
            spec: Defaults of the teacher.
            seed: Seed of the order of the batches.
            batches: Number of batches.
        """
        self._experts = experts
        self._text = text
        self._spec = spec
        self._generator = torch.Generator().manual_seed(seed)
        self._pairs = [self._teach(scenes.draw(BATCH, empty=0)) for _ in range(batches)]

    def draw(self, size: int, *, empty: float) -> Batch:
        """Returns a random batch. `size` has to be `BATCH` and `empty` 0, because batches are generated in advance."""
        assert (size, empty) == (BATCH, 0)
        return self._pairs[int(torch.randint(len(self._pairs), (), generator=self._generator))]

    @torch.no_grad()
    def _teach(self, batch: Batch) -> Batch:
        """Returns the batch with the teacher's latents in place of the scenes' own."""
        x_BCTHW = batch.noise_BCTHW
        with in_bf16():
            embeds_BLD, bias = self._text.read([*batch.prompts, *[""] * BATCH])
        scheduler = new_scheduler(self._spec.flow_shift)
        scheduler.set_timesteps(self._spec.steps)
        boundary = 1000 * (BOUNDARY_RATIO[self._spec.source_ref] or 0)
        with few_tokens(*self._experts) as attention:
            attention.bias = bias.to(torch.bfloat16)
            for timestep in scheduler.timesteps:
                x_BCTHW = torch.where(_given(batch), batch.latents_BCTHW, x_BCTHW)
                high_noise = timestep >= boundary
                expert = self._experts[0 if high_noise else -1]
                guidance = self._spec.guidance_scale if high_noise else self._spec.guidance_scale_2
                velocity_BCTHW = self._guide(expert, batch, x_BCTHW, timestep, embeds_BLD, guidance or 1.0)
                x_BCTHW = scheduler.step(velocity_BCTHW, timestep, x_BCTHW, return_dict=False)[0]
        made_BCTHW = torch.where(_given(batch), batch.latents_BCTHW, x_BCTHW)
        return replace(batch, latents_BCTHW=made_BCTHW)

    def _guide(
        self,
        expert: WanTransformer3DModel,
        batch: Batch,
        x_BCTHW: torch.Tensor,
        timestep: torch.Tensor,
        embeds_BLD: torch.Tensor,
        guidance: float,
    ) -> torch.Tensor:
        """Returns the guided velocity [B, C, T, H, W], with both passes in one batch."""
        time_B = timestep.float().expand(BATCH)
        if self._spec.source_ref == "ti2v":
            time_BCTHW = torch.where(_given(batch), 0.0, timestep.float()).expand(-1, 1, *x_BCTHW.shape[2:])
            time_B = time_BCTHW[:, 0, :, ::2, ::2].flatten(1)
        if batch.images_BCTHW is not None:
            x_BCTHW = torch.cat([x_BCTHW, batch.images_BCTHW], dim=1)
        with in_bf16():
            both_BCTHW = expert(
                hidden_states=torch.cat([x_BCTHW, x_BCTHW]),
                timestep=torch.cat([time_B, time_B]),
                encoder_hidden_states=embeds_BLD,
                return_dict=False,
            )[0].float()
        with_prompt_BCTHW, without_BCTHW = both_BCTHW.chunk(2)
        guided_BCTHW: torch.Tensor = without_BCTHW + guidance * (with_prompt_BCTHW - without_BCTHW)
        return guided_BCTHW


def _given(batch: Batch) -> torch.Tensor:
    """Returns a mask [B, 1, T, 1, 1] of the given latent frames."""
    given_BCTHW = torch.zeros(len(batch.given_B), 1, batch.latents_BCTHW.shape[2], 1, 1, dtype=torch.bool)
    given_BCTHW[batch.given_B, :, 0] = True
    return given_BCTHW
