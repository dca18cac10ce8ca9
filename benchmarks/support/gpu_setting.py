"""The setting of the GPU benchmark's parts, with random weights and the measurement of time and memory."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from benchmarks.support.reporting import Row
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.architecture import Architecture, find_architecture
from wan22_bridge.models.quantizing import stays_fp32
from wan22_bridge.planning.footprint import TEXT_TOKENS
from wan22_bridge.plans import RequestShape
from wan22_bridge.sizing import TEMPORAL_STRIDE

_SIGMA = 0.02
_TINY_SHAPE = RequestShape(width=64, height=64, num_frames=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """Where and how large a part runs."""

    device: str
    """`cuda` or `cpu`."""
    tiny: bool
    """Whether the built-in tiny models take the place of the published ones."""
    layers: int | None
    """Number of an expert's blocks. None: all of them, or the part's own number."""
    folder: Path
    """An empty folder for files."""
    rows: Path
    """The file to which each row is added as soon as it is measured."""

    @property
    def dtype(self) -> torch.dtype:
        """Compute dtype of the experts."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32

    def add(self, *rows: Row) -> None:
        """Writes measured rows."""
        with self.rows.open("a") as file:
            file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)

    def architecture(self, kind: str) -> Architecture:
        """Returns the architecture of a model: `t2v` or `ti2v`."""
        published = {"t2v": "wan2.2-t2v-a14b", "ti2v": "wan2.2-ti2v-5b"}[kind]
        return find_architecture(load_catalogue()[f"tiny-{kind}" if self.tiny else published])

    def shape(self, width: int, height: int, num_frames: int) -> RequestShape:
        """Returns the shape of a video; a small one for tiny models."""
        return _TINY_SHAPE if self.tiny else RequestShape(width=width, height=height, num_frames=num_frames)

    def synchronize(self) -> None:
        """Waits for the GPU."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def seconds(self, run: Callable[[], object], rounds: int = 2) -> float:
        """Returns the mean time of a call, without a first call that does not count."""
        run()
        return self.first_seconds(lambda: [run() for _ in range(rounds)]) / rounds

    def first_seconds(self, run: Callable[[], object]) -> float:
        """Returns the time of one call."""
        self.synchronize()
        began = time.perf_counter()
        run()
        self.synchronize()
        return time.perf_counter() - began

    def peak_gb(self, run: Callable[[], object]) -> tuple[float, float]:
        """Returns the allocated and the reserved peak of a call in GB; zeros on a CPU."""
        if self.device == "cpu":
            run()
            return 0.0, 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        run()
        self.synchronize()
        return torch.cuda.max_memory_allocated() / 1e9, torch.cuda.max_memory_reserved() / 1e9


def fill(module: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """Gives a module on the meta device random weights on a device. Speed and memory do not depend on the values."""
    for name, parameter in module.named_parameters():
        keeps = isinstance(module, WanTransformer3DModel) and stays_fp32(module, name)
        parameter.data = parameter.data.to(torch.float32 if keeps else dtype)
    module.to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            # Norms scale by about 1, so that the values neither vanish nor grow.
            is_scale = parameter.ndim == 1 and name.endswith("weight")
            parameter.normal_(1.0 if is_scale or name.endswith("gamma") else 0.0, _SIGMA)
    if isinstance(module, WanTransformer3DModel):
        config = module.config
        rope = WanRotaryPosEmbed(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
        module.rope = rope.to(device)  # Its tables are computed, and not parameters.
    return module.eval().requires_grad_(False)


def make_expert(setting: Setting, kind: str = "t2v", layers: int | None = None) -> WanTransformer3DModel:
    """Returns an expert with random weights on the device, with `layers` blocks unless `--layers` says otherwise."""
    built = setting.architecture(kind).build_transformer(num_layers=setting.layers or layers)
    expert = fill(built, setting.device, setting.dtype)
    assert isinstance(expert, WanTransformer3DModel)
    return expert


def make_pass(
    setting: Setting, expert: WanTransformer3DModel, shape: RequestShape, *, per_token: bool = False, kind: str = "t2v"
) -> Callable[[], torch.Tensor]:
    """Returns a function that runs one forward pass.

    Args:
        setting: The setting.
        expert: The expert.
        shape: The video.
        per_token: Whether each token has a timestep of its own, as diffusers passes them for TI2V.
        kind: `t2v` or `ti2v`.
    """
    latents = make_latents(setting, shape, kind).to(setting.dtype)
    patch = expert.config.patch_size
    tokens = latents[0, 0].numel() // (patch[0] * patch[1] * patch[2])
    steps = torch.full((1, tokens) if per_token else (1,), 500.0, device=setting.device)
    text = torch.randn(1, TEXT_TOKENS, expert.config.text_dim, device=setting.device, dtype=setting.dtype)

    @torch.no_grad()
    def run() -> torch.Tensor:
        found: torch.Tensor = expert(
            hidden_states=latents, timestep=steps, encoder_hidden_states=text, return_dict=False
        )[0]
        return found

    return run


def make_latents(setting: Setting, shape: RequestShape, kind: str = "t2v") -> torch.Tensor:
    """Returns random latents of a video [1, C, T, H, W], in fp32."""
    vae = setting.architecture(kind).vae
    spatial = int(vae["scale_factor_spatial"])
    frames = (shape.num_frames - 1) // TEMPORAL_STRIDE + 1
    size = (1, int(vae["z_dim"]), frames, shape.height // spatial, shape.width // spatial)
    return torch.randn(*size, device=setting.device, generator=torch.Generator(setting.device).manual_seed(1))
