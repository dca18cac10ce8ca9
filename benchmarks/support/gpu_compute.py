"""Parts of the GPU benchmark that compute: attention, experts, quantization and decoding."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.support.gpu_setting import Setting, fill, make_expert, make_latents, make_pass
from benchmarks.support.reporting import Row
from wan22_bridge.models.quantizing import quantize
from wan22_bridge.pipeline.decoding import decode_frames
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import Quantization
from wan22_bridge.tuning.trials import psnr

_SIZES = {"832x480x81": (832, 480, 81), "1280x720x81": (1280, 720, 81)}
_LAYERS_OF_A14B = 40
_FEW_LAYERS = 8
_STEP_SECONDS = 5.7
_KERNELS_SHOWN = 8


def measure_attention(setting: Setting) -> None:
    """Compares the kernels of PyTorch's attention, and names the one that PyTorch chooses."""
    heads, width = (2, 32) if setting.tiny else (40, 128)
    for tokens in (128,) if setting.tiny else (32_760, 75_600):
        query, key, value = (
            torch.randn(1, heads, tokens, width, device=setting.device, dtype=setting.dtype) for _ in range(3)
        )

        attend = partial(torch.nn.functional.scaled_dot_product_attention, query, key, value)

        def add(name: str, seconds: float, count: int = tokens) -> None:
            teraflop = 4 * count**2 * heads * width / 1e12
            setting.add(Row(f"attention, {count} tokens, {name}", 1000 * seconds, "ms"))
            setting.add(Row(f"attention, {count} tokens, {name}: speed", teraflop / seconds, "TFLOP/s"))

        kernels = _list_kernels(setting, attend)
        chosen = kernels[0][0] if kernels else "unknown kernel"
        add(f"as PyTorch chooses ({chosen})", setting.seconds(attend))
        backends = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
        for backend in [SDPBackend.MATH] if setting.tiny else backends:
            try:
                with sdpa_kernel(backend):
                    add(backend.name.lower(), setting.seconds(attend))
            except RuntimeError as exc:
                setting.add(Row(f"attention, {tokens} tokens, {backend.name.lower()}: {_first_line(exc)}", 1, "", 0))


def measure_expert(setting: Setting) -> None:
    """Measures a pass of one A14B expert, where the time goes, and the peak against the estimate."""
    expert = make_expert(setting)
    weights = sum(parameter.nbytes for parameter in expert.parameters())
    layers = len(expert.blocks)
    setting.add(Row("an expert: layers", layers, ""), Row("an expert: weights", weights / 1e9, "GB"))
    meter = FootprintMeter(setting.architecture("t2v"), setting.device, base_plan(setting.device).dtypes)
    for name, size in _SIZES.items():
        shape = setting.shape(*size)
        run = make_pass(setting, expert, shape)
        seconds = setting.seconds(run, 1)
        is_whole = layers == _LAYERS_OF_A14B and size == _SIZES["832x480x81"]
        setting.add(Row(f"an eager pass at {name}", seconds, "s"))
        setting.add(
            Row(f"an eager step of two passes at {name}", 2 * seconds, "s", _STEP_SECONDS if is_whole else None)
        )
        allocated, reserved = setting.peak_gb(run)
        estimated = (weights + meter.measure(shape).denoise_bytes) / 1e9
        setting.add(
            Row(f"a pass at {name}: allocated peak", allocated, "GB"),
            Row(f"a pass at {name}: reserved peak", reserved, "GB"),
            Row(f"a pass at {name}: estimated peak without CUDA's context", estimated, "GB"),
        )
        if allocated:
            error = abs(estimated / allocated - 1)
            setting.add(Row(f"a pass at {name}: error of the estimate", error, "of allocated", 0.1))
        for kernel, milliseconds in _list_kernels(setting, run)[:_KERNELS_SHOWN]:
            setting.add(Row(f"a pass at {name}, {kernel}", milliseconds, "ms"))


def measure_compilation(setting: Setting) -> None:
    """Measures compiled blocks: the first pass, later passes, another size, and a LoRA."""
    expert = make_expert(setting, layers=_FEW_LAYERS)
    first, second = (make_pass(setting, expert, setting.shape(*size)) for size in _SIZES.values())
    name, other = _SIZES
    eager = setting.seconds(first)
    expert.compile_repeated_blocks(fullgraph=False)
    setting.add(Row(f"compiled, {len(expert.blocks)} layers, {name}: first pass", setting.first_seconds(first), "s"))
    compiled = setting.seconds(first)
    setting.add(
        Row(f"{len(expert.blocks)} layers, {name}: an eager pass", eager, "s"),
        Row(f"{len(expert.blocks)} layers, {name}: a compiled pass", compiled, "s"),
        Row("compiled / eager", compiled / eager, "×", 0.62 if setting.device == "cuda" else None),
        Row(f"compiled: first pass at {other}", setting.first_seconds(second), "s"),
        Row(f"compiled: a later pass at {other}", setting.seconds(second, 1), "s"),
    )
    from peft import LoraConfig

    expert.add_adapter(LoraConfig(r=16, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    setting.add(
        Row("compiled: first pass with a LoRA", setting.first_seconds(first), "s"),
        Row("compiled: a pass with a LoRA / without", setting.seconds(first) / compiled, "×"),
    )


def measure_quantization(setting: Setting) -> None:
    """Measures the ways to store the weights in 8 bits: time of a pass, and error of its output."""
    shape = setting.shape(*_SIZES["832x480x81"])
    expert = make_expert(setting, layers=_FEW_LAYERS)
    run = make_pass(setting, expert, shape)
    exact, plain = run(), setting.seconds(run)
    del expert, run
    ways: dict[str, Callable[[Any], object]] = {
        "fp8, layer by layer": lambda expert: quantize(expert, Quantization.FP8, setting.dtype),
        "int8": lambda expert: quantize(expert, Quantization.INT8, setting.dtype),
    }
    if setting.device == "cuda" and torch.cuda.get_device_capability() >= (8, 9):
        ways["fp8 products scaled by row"] = _quantize_rowwise
    for name, change in ways.items():
        expert = make_expert(setting, layers=_FEW_LAYERS)
        change(expert)
        run = make_pass(setting, expert, shape)
        found = run()
        error = float((found - exact).float().norm() / exact.float().norm())
        setting.add(
            Row(f"{name}: a pass / bf16", setting.seconds(run) / plain, "×"),
            Row(f"{name}: relative error of the output", error, ""),
        )
        del expert, run


def measure_timesteps(setting: Setting) -> None:
    """Measures a TI2V pass with a timestep for each token, as diffusers passes them, and with one timestep."""
    expert = make_expert(setting, "ti2v")
    shape = setting.shape(1280, 704, 121)
    seconds = {}
    for name, per_token in {"a timestep for each token": True, "one timestep": False}.items():
        run = make_pass(setting, expert, shape, per_token=per_token, kind="ti2v")
        seconds[name] = setting.seconds(run)
        allocated, _ = setting.peak_gb(run)
        setting.add(
            Row(f"TI2V, {len(expert.blocks)} layers, {name}: a pass", seconds[name], "s"),
            Row(f"TI2V, {name}: allocated peak", allocated, "GB"),
        )
    one, each = seconds["one timestep"], seconds["a timestep for each token"]
    setting.add(Row("TI2V: one timestep / one for each token", one / each, "×"))


def measure_decoding(setting: Setting) -> None:
    """Compares decoding in fp32 with bf16, with another memory layout and with cuDNN's benchmark."""
    targets = {("t2v", 832, 480, 81): 2.5, ("t2v", 1280, 720, 81): 5.0, ("ti2v", 1280, 704, 121): 12.0}
    for (kind, *size), target in targets.items():
        vae = fill(setting.architecture(kind).build_vae(), setting.device, torch.float32)
        assert isinstance(vae, AutoencoderKLWan)
        latents = make_latents(setting, setting.shape(*size), kind)
        name = f"decoding {kind} {'x'.join(map(str, size))}"
        exact: torch.Tensor | None = None
        for way, change in _ways_to_decode().items():
            change(vae)
            frames = _decode(vae, latents)
            seconds = setting.seconds(lambda vae=vae, latents=latents: _decode(vae, latents), 1)  # type: ignore[misc]
            allocated, _ = setting.peak_gb(lambda vae=vae, latents=latents: _decode(vae, latents))  # type: ignore[misc]
            exact = frames if exact is None else exact
            limit = target if setting.device == "cuda" and "benchmark" in way else None
            setting.add(Row(f"{name}, {way}", seconds, "s", limit), Row(f"{name}, {way}: peak", allocated, "GB"))
            likeness = psnr(frames, exact)
            if math.isfinite(likeness):
                setting.add(Row(f"{name}, {way}: likeness to fp32", likeness, "dB"))
        torch.backends.cudnn.benchmark = False


def _ways_to_decode() -> dict[str, Callable[[AutoencoderKLWan], None]]:
    """Returns changes of a VAE, each on top of the former ones."""

    def lay_out(vae: AutoencoderKLWan) -> None:
        for module in vae.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    def search(_vae: AutoencoderKLWan) -> None:
        torch.backends.cudnn.benchmark = True

    return {
        "fp32": lambda _vae: None,
        "bf16": lambda vae: vae.to(torch.bfloat16),
        "bf16, channels last": lay_out,
        "bf16, channels last, cuDNN's benchmark": search,
    }


def _decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.from_numpy(part).float() for part in decode_frames(vae, latents)])


def _quantize_rowwise(expert: torch.nn.Module) -> None:
    """Stores the linear layers of the blocks in fp8, with a scale for each row, and multiplies in fp8."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    quantize_(expert.blocks, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()))


def _list_kernels(setting: Setting, run: Callable[[], object]) -> list[tuple[str, float]]:
    """Returns the kernels of one call with their milliseconds, longest first."""
    on_gpu = setting.device == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as found:
        run()
        setting.synchronize()
    events = [event for event in found.key_averages() if not on_gpu or str(event.device_type).endswith("CUDA")]
    times = [
        (event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3) for event in events
    ]
    return sorted(((_shorten(name), value) for name, value in times), key=lambda pair: -pair[1])


def _shorten(kernel: str) -> str:
    return kernel.split("<")[0].split("(")[0].removeprefix("void ")[:60]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:80]
