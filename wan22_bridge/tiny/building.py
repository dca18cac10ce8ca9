"""The tiny pipelines with seeded random weights: the topology of each Wan2.2 model made small.

What makes the three real models different is kept: two experts with the model's own boundary for T2V and I2V,
I2V's 2·z+4 input channels, TI2V's residual VAE with patch 2 and 16× spatial stride and its per-token timesteps.
"""

import string

import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from transformers import T5TokenizerFast, UMT5Config, UMT5EncoderModel
from transformers.utils import logging as transformers_logging

_TEXT_DIM = 64
_LATENT_CHANNELS = {"t2v": 8, "i2v": 8, "ti2v": 16}
_BOUNDARY_RATIO = {"t2v": 0.875, "i2v": 0.9, "ti2v": None}
_FLOW_SHIFT = {"t2v": 3.0, "i2v": 3.0, "ti2v": 5.0}
_SEED = {"t2v": 2201, "i2v": 2202, "ti2v": 2203}

_WORDS = (
    "a an the and of in on with to from is at red green blue yellow white black purple orange pink gray circle square "
    "triangle star ball background moving move moves right left up down growing shrinking spinning bouncing standing "
    "still video cat dog walking sunset beach"
)


def build_pipeline(member: str) -> WanPipeline:
    """Builds one member of the family in fp32 with weights that depend on nothing but its name."""
    transformers_logging.disable_progress_bar()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED[member])
        two_experts = _BOUNDARY_RATIO[member] is not None
        tokenizer = _build_tokenizer()
        text_encoder = _build_text_encoder(len(tokenizer))
        vae = _build_vae(member)
        transformer = _build_transformer(member)
        transformer_2 = _build_transformer(member) if two_experts else None
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        transformer_2=transformer_2,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            num_train_timesteps=1000,
            flow_shift=_FLOW_SHIFT[member],
        ),
        boundary_ratio=_BOUNDARY_RATIO[member],
        expand_timesteps=member == "ti2v",
    )


def _build_tokenizer() -> T5TokenizerFast:
    """A unigram vocabulary of the letters and of common words, so that any text has ids and common text few."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), ("▁", -4.0)]
    pieces += [(character, -8.0) for character in string.ascii_letters + string.digits + string.punctuation]
    pieces += [(f"▁{word}", -3.0) for word in dict.fromkeys(_WORDS.split())]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def _build_text_encoder(vocabulary_size: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary_size,
            d_model=_TEXT_DIM,
            d_kv=16,
            d_ff=128,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
        )
    ).eval()


def _build_vae(member: str) -> AutoencoderKLWan:
    channels = _LATENT_CHANNELS[member]
    geometry = (
        {"is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
        if member == "ti2v"
        else {"scale_factor_spatial": 8}
    )
    return AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=channels,
        dim_mult=[1, 2, 4, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
        scale_factor_temporal=4,
        **geometry,
    ).eval()


def _build_transformer(member: str) -> WanTransformer3DModel:
    channels = _LATENT_CHANNELS[member]
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=24,
        in_channels=2 * channels + 4 if member == "i2v" else channels,
        out_channels=channels,
        text_dim=_TEXT_DIM,
        freq_dim=64,
        ffn_dim=192,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
    ).eval()
