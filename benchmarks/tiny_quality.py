"""How good the trained parts of the tiny family are, on scenes that they have not seen."""

import random
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.reporting import Row, parse_arguments, report
from wan22_bridge.hardware import use_all_cores
from wan22_bridge.kernels import use_fast_kernels
from wan22_bridge.tiny.detectors import see_things
from wan22_bridge.tiny.scenes import draw_scene
from wan22_bridge.tiny.trained import load_vae
from wan22_bridge.tiny.world import Scene, render
from wan22_bridge.types import Frames

SIDE, FRAMES = 96, 17
HELD_OUT_SEED = 1_000_003


def main() -> None:
    """Measures and reports."""
    arguments = parse_arguments("The trained parts of the tiny family, on held-out scenes.")
    use_all_cores()
    report(_measure_vae(scenes=16 if arguments.quick else 100), arguments.json)


@torch.no_grad()
def _measure_vae(scenes: int) -> list[Row]:
    """Scenes through the VAE and back: the likeness, and whether the detectors still see what there was."""
    vae = load_vae()
    use_fast_kernels(vae)
    chance, psnrs, seen = random.Random(HELD_OUT_SEED), [], dict.fromkeys(("colour", "shape", "motion"), 0)
    for _ in range(scenes):
        scene = draw_scene(chance, things=1)
        clip_BCTHW = torch.from_numpy(render(scene, num_frames=FRAMES, width=SIDE, height=SIDE))
        clip_BCTHW = clip_BCTHW.permute(3, 0, 1, 2).unsqueeze(0) * 2 - 1
        decoded_BCTHW = vae.decode(vae.encode(clip_BCTHW).latent_dist.mode()).sample.clamp(-1, 1)
        psnrs.append(float(10 * torch.log10(4 / (decoded_BCTHW - clip_BCTHW).square().mean())))
        pixels_THWC = ((decoded_BCTHW[0].permute(1, 2, 3, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
        for name, right in _compare(scene, pixels_THWC).items():
            seen[name] += right
    rows = [
        Row("VAE: reconstruction, mean", sum(psnrs) / scenes, "dB", least=30.0),
        Row("VAE: reconstruction, worst", min(psnrs), "dB"),
    ]
    return rows + [Row(f"VAE: {name} still seen", 100 * right / scenes, "%") for name, right in seen.items()]


def _compare(scene: Scene, pixels_THWC: Frames) -> dict[str, bool]:
    [thing], sights = scene.things, see_things(pixels_THWC)
    return {
        name: bool(sights) and getattr(sights[0], name) == getattr(thing, name)
        for name in ("colour", "shape", "motion")
    }


if __name__ == "__main__":
    main()
