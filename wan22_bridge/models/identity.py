"""Names for a model's files and for how they are computed with: equal files and equal bits have equal names."""

from pathlib import Path

from wan22_bridge.files import identify_files
from wan22_bridge.plans import OptimizationPlan

_SUFFIXES = (".safetensors", ".gguf", ".json", ".model")


def identify_model(folder: Path) -> str:
    """Returns a name for the weights, configs and tokenizer in a model's folder."""
    return _identify(folder)


def identify_text_encoder(folder: Path) -> str:
    """Returns a name for the text encoder and the tokenizer in a model's folder."""
    return _identify(folder / "text_encoder", folder / "tokenizer")


def identify_computation(plan: OptimizationPlan, *, exact: bool) -> str:
    """Returns a name for the choices that change the bits of the experts' results.

    Args:
        plan: The plan that the model runs under.
        exact: Whether the model uses diffusers' own kernels on the CPU.
    """
    choices = f"{plan.quantization} {plan.batched_guidance} {plan.attention_backend} {plan.compiled}"
    if plan.parallel_degree > 1:
        # Another kernel may compute a part of the tokens.
        choices += f" over {plan.parallel_degree}"
    return f"exact {choices}" if exact else choices


def _identify(*folders: Path) -> str:
    found = (path for folder in folders for path in folder.rglob("*"))
    return identify_files(path for path in found if path.suffix in _SUFFIXES)
