"""Measurement of a model's footprint: its weights, and each stage's activations for one request shape.

The model's own modules are measured on the meta device. Weights are added up, and activations are traced in one pass.
Tracing one transformer block is enough, because a pass through all blocks takes no more memory.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache
from typing import TypeVar

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from wan22_bridge.models.architecture import Architecture
from wan22_bridge.models.quantizing import bytes_per_value, stays_fp32
from wan22_bridge.planning.tracing import trace_peak_bytes
from wan22_bridge.plans import TILES, ComponentBytes, Footprint, Quantization, RequestShape
from wan22_bridge.sizing import TEMPORAL_STRIDE

Module = TypeVar("Module", bound=torch.nn.Module)

TEXT_TOKENS = 512
"""Length in tokens to which prompts are padded."""
_TILED_COPIES = 3
"""Copies of the fp32 video in RAM if it is decoded in tiles: the overlapping tiles, and the frames made of them."""
_TRACED_LATENT_FRAMES = 3
"""Later latent frames take as much as the third, because the caches of the causal convolutions are full by then."""


class FootprintMeter:
    """Measures footprints of one model, and caches its measurements."""

    def __init__(self, architecture: Architecture, device: str, dtypes: Mapping[str, str]) -> None:
        """Creates a meter, with `device` and `dtypes` as in a plan."""
        self._on_cpu = device == "cpu"
        self.architecture = architecture
        self._dtypes = {name: _dtype(dtype) for name, dtype in dtypes.items()}
        self.measure: Callable[[RequestShape], Footprint] = lru_cache(maxsize=64)(self._measure)
        """Measures the footprint for a request shape."""
        self._encoding_bytes: Callable[[int, int, int], int] = lru_cache(maxsize=256)(self._trace_encoder)
        self._decoding_bytes: Callable[[int, int, int], int] = lru_cache(maxsize=256)(self._trace_decoder)
        self._weights: dict[str, ComponentBytes] | None = None
        self._encode_text_bytes = 0

    def _measure(self, shape: RequestShape) -> Footprint:
        if self._weights is None:
            self._weights = self._weigh()
            self._encode_text_bytes = self._trace_text_encoder()
        latent_THW = _latent_shape(self.architecture, shape)
        weights = self._weights
        return Footprint(
            experts=self.architecture.experts,
            expert={kind: weights[kind] for kind in Quantization if kind in weights},
            loaded_expert_bytes=weights[Quantization.GGUF if Quantization.GGUF in weights else Quantization.NONE].total,
            text_encoder=weights["text_encoder"],
            vae=weights["vae"],
            encode_text_bytes=self._encode_text_bytes,
            encode_image_bytes=self._encode_image_bytes(shape) if shape.image else {},
            denoise_bytes=self._trace_expert(latent_THW),
            embed_bytes=self._trace_embedding(latent_THW),
            decode_bytes=self._decode_bytes(latent_THW),
            frames_bytes=_TILED_COPIES * 3 * 4 * shape.width * shape.height * shape.num_frames,
            tokens=_tokens(self.architecture, latent_THW),
            token_bytes=self._token_bytes(),
            layers=int(self.architecture.transformer["num_layers"]),
            heads=int(self.architecture.transformer["num_attention_heads"]),
        )

    def _token_bytes(self) -> int:
        transformer = self.architecture.transformer
        width = int(transformer["num_attention_heads"]) * int(transformer["attention_head_dim"])
        return width * self._dtypes["experts"].itemsize

    def _weigh(self) -> dict[str, ComponentBytes]:
        expert = self.architecture.build_transformer()
        kinds = [kind for kind in Quantization if kind is not Quantization.GGUF]
        weights = {kind.value: _weigh_expert(expert, self._dtypes["experts"], kind) for kind in kinds}
        if self.architecture.gguf_bytes is not None:
            weights[Quantization.GGUF] = _scale(weights[Quantization.NONE], self.architecture.gguf_bytes)
        text_encoder = self.architecture.build_text_encoder()
        itemsize = self._dtypes["text_encoder"].itemsize
        weights["text_encoder"] = _weigh(text_encoder, text_encoder.encoder.block, lambda _: itemsize)
        itemsize = self._dtypes["vae"].itemsize
        weights["vae"] = _weigh(self.architecture.build_vae(), (), lambda _: itemsize)
        return weights

    def _trace_text_encoder(self) -> int:
        encoder = _cast(self.architecture.build_text_encoder(), self._dtypes["text_encoder"])
        ids = torch.zeros(1, TEXT_TOKENS, dtype=torch.long, device="meta")
        return trace_peak_bytes(lambda: encoder(ids).last_hidden_state, [*_tensors(encoder), ids])

    def _trace_expert(self, latent_THW: tuple[int, int, int]) -> int:
        dtype = self._dtypes["experts"]
        expert = self.architecture.build_transformer(num_layers=1)
        for name, parameter in expert.named_parameters():
            parameter.data = parameter.data.to(torch.float32 if stays_fp32(expert, name) else dtype)
        expanded = self.architecture.expand_timesteps
        tokens = _tokens(self.architecture, latent_THW)
        given = {
            "hidden_states": torch.empty(1, expert.config.in_channels, *latent_THW, device="meta", dtype=dtype),
            "timestep": torch.empty((1, tokens) if expanded else (1,), device="meta"),
            "encoder_hidden_states": torch.empty(1, TEXT_TOKENS, expert.config.text_dim, device="meta", dtype=dtype),
        }
        return trace_peak_bytes(lambda: expert(**given, return_dict=False), [*_tensors(expert), *given.values()])

    def _trace_embedding(self, latent_THW: tuple[int, int, int]) -> int:
        dtype = self._dtypes["experts"]
        expert = _cast(self.architecture.build_transformer(num_layers=0), dtype)
        latents = torch.empty(1, expert.config.in_channels, *latent_THW, device="meta", dtype=dtype)
        return trace_peak_bytes(
            lambda: (expert.rope(latents), expert.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()),
            [*_tensors(expert), latents],
        )

    @cached_property
    def _vae(self) -> AutoencoderKLWan:
        return _cast(self.architecture.build_vae(), self._dtypes["vae"])

    def _encode_image_bytes(self, shape: RequestShape) -> dict[int | None, int]:
        """Returns the bytes of the encoding of the conditioning video, by the tile's side.

        TI2V encodes one frame. Other models encode a whole video, which is gray where no input image is given.
        """
        frames = 1 if self.architecture.expand_timesteps else shape.num_frames
        traced = min(frames, 1 + TEMPORAL_STRIDE * (_TRACED_LATENT_FRAMES - 1))
        whole_video = 3 * frames * shape.height * shape.width * self._dtypes["vae"].itemsize
        return {
            tile: whole_video + self._encoding_bytes(traced, *_clip(shape.height, shape.width, tile))
            for tile in (None, *TILES)
        }

    def _decode_bytes(self, latent_THW: tuple[int, int, int]) -> dict[int | None, int]:
        """Returns the bytes of the decoding of a video, by the tile's side."""
        frames, height, width = latent_THW
        scale = int(self.architecture.vae["scale_factor_spatial"])
        sides: dict[int | None, int | None] = {None: None} | {tile: tile // scale for tile in TILES}
        traced = min(frames, _TRACED_LATENT_FRAMES)
        return {tile: self._decoding_bytes(traced, *_clip(height, width, side)) for tile, side in sides.items()}

    def _trace_encoder(self, frames: int, height: int, width: int) -> int:
        vae = self._vae
        video = torch.empty(1, 3, frames, height, width, device="meta", dtype=vae.dtype)
        return trace_peak_bytes(lambda: vae._encode(video), [*_tensors(vae), video], convolutions_copy=self._on_cpu)

    def _trace_decoder(self, latent_frames: int, height: int, width: int) -> int:
        vae = self._vae
        latents = torch.empty(1, vae.config.z_dim, latent_frames, height, width, device="meta", dtype=vae.dtype)

        def decode() -> None:
            vae.clear_cache()
            for index in range(latent_frames):
                vae._conv_idx = [0]
                z = vae.post_quant_conv(latents[:, :, index : index + 1])
                vae.decoder(z, feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=index == 0)
            vae.clear_cache()

        return trace_peak_bytes(decode, [*_tensors(vae), latents], convolutions_copy=self._on_cpu)


def _clip(height: int, width: int, side: int | None) -> tuple[int, int]:
    """Returns the height and the width of a square tile with a side, or of the whole frame where that is smaller."""
    return (height, width) if side is None else (min(height, side), min(width, side))


def _dtype(name: str) -> torch.dtype:
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _cast(module: Module, dtype: torch.dtype) -> Module:
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    return module


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def _weigh_expert(expert: WanTransformer3DModel, dtype: torch.dtype, quantization: Quantization) -> ComponentBytes:
    sizes = bytes_per_value(expert, dtype, quantization)
    return _weigh(expert, expert.blocks, sizes.__getitem__)


def _scale(weights: ComponentBytes, total: int) -> ComponentBytes:
    """Scales a component's sizes to another total."""
    share = total / weights.total
    return ComponentBytes(
        total=total,
        block=round(weights.block * share),
        rest=round(weights.rest * share),
        layer=round(weights.layer * share),
    )


def _weigh(
    module: torch.nn.Module, blocks: Iterable[torch.nn.Module], itemsize: Callable[[str], float]
) -> ComponentBytes:
    """Adds up a component's weights; `itemsize` returns the bytes of one value of a parameter, by its name."""
    sizes = {id(parameter): round(parameter.numel() * itemsize(name)) for name, parameter in module.named_parameters()}
    block_sizes = [sum(sizes[id(parameter)] for parameter in block.parameters()) for block in blocks]
    layers = [sum(sizes[id(parameter)] for parameter in layer.parameters(recurse=False)) for layer in module.modules()]
    total = sum(sizes.values())
    return ComponentBytes(
        total=total, block=max(block_sizes, default=total), rest=total - sum(block_sizes), layer=max(layers)
    )


def _latent_shape(architecture: Architecture, shape: RequestShape) -> tuple[int, int, int]:
    spatial = int(architecture.vae["scale_factor_spatial"])
    return (shape.num_frames - 1) // TEMPORAL_STRIDE + 1, shape.height // spatial, shape.width // spatial


def _tokens(architecture: Architecture, latent_THW: tuple[int, int, int]) -> int:
    patches = [
        size // int(patch) for size, patch in zip(latent_THW, architecture.transformer["patch_size"], strict=True)
    ]
    return patches[0] * patches[1] * patches[2]
