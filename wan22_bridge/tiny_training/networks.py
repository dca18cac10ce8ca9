"""Untrained tiny networks with the architecture of each Wan2.2 model.

They keep the differences between the three real models. T2V and I2V have two experts with the model's own boundary. I2V
has 2·z+4 input channels. TI2V has a residual VAE with patch 2 and 16× spatial stride, and per-token timesteps.
"""

import string
from typing import Any

from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanTransformer3DModel
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel

from wan22_bridge.builtin.family import VAE_OF
from wan22_bridge.tiny_training.scenes import words

TEXT_DIM = 96
"""Width of the text embeddings."""
BOUNDARY_RATIO = {"t2v": 0.875, "i2v": 0.9, "ti2v": None}
"""Noise at which the low-noise expert takes over; None for a single expert."""
_VAES: dict[str, dict[str, Any]] = {
    "2.1": {"z_dim": 12, "scale_factor_spatial": 8},
    "2.2": {
        "z_dim": 24,
        "scale_factor_spatial": 16,
        "is_residual": True,
        "patch_size": 2,
        "in_channels": 12,
        "out_channels": 12,
    },
}


def new_tokenizer() -> T5TokenizerFast:
    """Creates a tokenizer with a unigram vocabulary of the world's words and of letters.

    The words keep prompts short, and the letters encode any other text.
    """
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), ("▁", -4.0)]
    pieces += [(character, -8.0) for character in string.ascii_letters + string.digits + string.punctuation]
    pieces += [(f"▁{word}", -3.0) for word in words()]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def new_text_encoder(vocabulary_size: int) -> UMT5EncoderModel:
    """Creates the text encoder that all three models share."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary_size,
            d_model=TEXT_DIM,
            d_kv=24,
            d_ff=192,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    )


def new_vae(version: str) -> AutoencoderKLWan:
    """Creates a VAE with the geometry of Wan "2.1" or "2.2"."""
    channels = _VAES[version]["z_dim"]
    return AutoencoderKLWan(
        base_dim=16,
        decoder_base_dim=16,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        scale_factor_temporal=4,
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
        **_VAES[version],
    )


def new_transformer(member: str) -> WanTransformer3DModel:
    """Creates an expert of t2v, i2v or ti2v."""
    channels = _VAES[VAE_OF[member]]["z_dim"]
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=48,
        in_channels=2 * channels + 4 if member == "i2v" else channels,
        out_channels=channels,
        text_dim=TEXT_DIM,
        freq_dim=64,
        ffn_dim=384,
        num_layers=5,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    )


def new_scheduler(flow_shift: float) -> UniPCMultistepScheduler:
    """Creates the scheduler that Wan's repositories use."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=flow_shift
    )
