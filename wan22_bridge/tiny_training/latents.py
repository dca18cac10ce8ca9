"""Training data of the transformers: encoded scenes, their prompts, and the images of image-to-video."""

import random
from dataclasses import dataclass, replace

import numpy as np
import torch
from diffusers import AutoencoderKLWan

from wan22_bridge.models.kernels import use_fast_kernels
from wan22_bridge.tiny_training.scenes import describe, draw_scene, is_held_out
from wan22_bridge.tiny_training.world import Scene, render

SIDE, FRAMES = 96, 17
"""Width and height in pixels, and frame count, of the clips that the transformers learn."""
_WORDINGS = 4
"""Prompts per scene."""
_GIVEN = 0.5
"""Share of TI2V's scenes whose first latent frame is given."""
_WITH_LAST = 0.5
"""Share of I2V's scenes whose last frame is given in addition to the first."""
_MOST_SCENES = 12_000
"""Maximum number of scenes in a pool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Batch of training scenes."""

    latents_BCTHW: torch.Tensor
    """Latents, normalized to mean 0 and standard deviation 1."""
    noise_BCTHW: torch.Tensor
    prompts: list[str]
    images_BCTHW: torch.Tensor | None
    """For I2V: mask and latents of the given first frame and, in some scenes, last frame; 4+z channels."""
    given_B: torch.Tensor
    """For TI2V: whether the first latent frame of each scene is given."""


class LatentPool:
    """Pool of encoded scenes of the tiny world, which grows by one scene with each batch up to a maximum."""

    def __init__(self, member: str, vae: AutoencoderKLWan, seed: int, *, first: int, neon: bool = False) -> None:
        """Creates an empty pool.

        Args:
            member: t2v, i2v or ti2v.
            vae: Trained VAE, whose kernels are replaced by faster ones.
            seed: Seed of the scenes, the batches and the noise.
            first: Number of scenes that are encoded before the first batch.
            neon: Whether the scenes are in neon.
        """
        use_fast_kernels(vae)
        self._vae = vae
        shape = (1, vae.config.z_dim, 1, 1, 1)
        self._mean = torch.tensor(vae.config.latents_mean).view(shape)
        self._std = torch.tensor(vae.config.latents_std).view(shape)
        self._chance = random.Random(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._member = member
        self._neon = neon
        self._first = first
        self._latents: list[torch.Tensor] = []
        self._images: list[torch.Tensor] = []
        self._prompts: list[list[str]] = []

    def draw(self, size: int, *, empty: float) -> Batch:
        """Draws a random batch.

        Args:
            size: Number of scenes.
            empty: Share of empty prompts, which guidance needs.
        """
        count = len(self._prompts)
        self._grow(1 if self._first <= count < _MOST_SCENES else max(0, self._first - count))
        chosen = [self._chance.randrange(len(self._prompts)) for _ in range(size)]
        prompts = ["" if self._chance.random() < empty else self._chance.choice(self._prompts[i]) for i in chosen]
        images = [self._images[i] for i in chosen] if self._images else None
        latents_BCTHW = torch.stack([self._latents[i] for i in chosen]).float()
        return Batch(
            latents_BCTHW=latents_BCTHW,
            noise_BCTHW=torch.randn(latents_BCTHW.shape, generator=self._generator),
            prompts=prompts,
            images_BCTHW=None if images is None else torch.stack(images).float(),
            given_B=torch.rand(size, generator=self._generator) < (_GIVEN if self._member == "ti2v" else 0),
        )

    def _grow(self, count: int) -> None:
        """Adds `count` scenes, none of them held out."""
        for _ in range(count):
            scene = draw_scene(self._chance)
            while is_held_out(scene):
                scene = draw_scene(self._chance)
            scene = replace(scene, neon=self._neon)
            clip_BCTHW = draw_clip(scene)
            self._latents.append(self._encode(clip_BCTHW)[0].half())
            self._prompts.append([describe(scene, self._chance) for _ in range(_WORDINGS)])
            if self._member == "i2v":
                self._images.append(self._condition(clip_BCTHW, self._chance.random() < _WITH_LAST).half())

    @torch.no_grad()
    def _encode(self, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        """Encodes a clip to normalized latents."""
        encoded: torch.Tensor = (self._vae.encode(clip_BCTHW).latent_dist.mode() - self._mean) / self._std
        return encoded

    def _condition(self, clip_BCTHW: torch.Tensor, last: bool) -> torch.Tensor:
        """Returns the mask of the given frames, and the latents of a clip in which all other frames are gray.

        Follows `WanImageToVideoPipeline.prepare_latents` of diffusers 0.42.1.
        """
        known_BCTHW = torch.zeros_like(clip_BCTHW)
        known_T = torch.zeros(4 + FRAMES - 1)
        known_BCTHW[:, :, 0] = clip_BCTHW[:, :, 0]
        known_T[:4] = 1
        if last:
            known_BCTHW[:, :, -1] = clip_BCTHW[:, :, -1]
            known_T[-1] = 1
        latents_CTHW = self._encode(known_BCTHW)[0]
        mask_CT = known_T.view(-1, 4).T
        mask_CTHW = mask_CT[:, :, None, None].expand(*mask_CT.shape, *latents_CTHW.shape[2:])
        return torch.cat([mask_CTHW, latents_CTHW])


def draw_clip(scene: Scene) -> torch.Tensor:
    """Renders a scene to frames [1, 3, FRAMES, SIDE, SIDE] in -1..1."""
    pixels_THWC = np.ascontiguousarray(render(scene, num_frames=FRAMES, width=SIDE, height=SIDE))
    return torch.from_numpy(pixels_THWC).permute(3, 0, 1, 2).unsqueeze(0) * 2 - 1
