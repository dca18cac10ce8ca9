"""Whether a LoRA fits a model, decided from the headers of its files.

This is the only place that decides it before a job runs: uploads, submissions and descriptions use it. It imports no
torch. The loader checks the tensors again, against the layers of the loaded model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wan22_bridge.catalogue import ModelSpec, load_catalogue
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_files import LoraFiles
from wan22_bridge.models.lora_keys import LoraLayer, NoWan22Lora, parse_layers
from wan22_bridge.models.safetensors_header import Header, read_header
from wan22_bridge.models.transformer_shape import TransformerShape, block_number, find_shape
from wan22_bridge.types import ModelType


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraSummary:
    """What the headers of a LoRA's files tell."""

    rank: int
    """Largest rank of a layer."""
    layers: int
    """Number of layers that the LoRA changes in one expert."""
    width: int | None
    """Width of the hidden states of the model it was trained for, if its layers tell."""


def check_fit(files: LoraFiles, spec: ModelSpec) -> None:
    """Checks that a LoRA fits a model.

    Raises:
        InvalidRequest: It does not, or its files hold no LoRA for a Wan2.2 model.
    """
    if reason := find_misfit(files, spec):
        raise incompatible(files.name, f"can't be used with this model: {reason}")


def find_misfit(files: LoraFiles, spec: ModelSpec) -> str | None:
    """Returns why a LoRA does not fit a model, or None if it fits."""
    if spec.type is ModelType.TI2V and files.high_noise is None:
        return "it has a file for the low-noise expert only, and this model has one expert"
    shape = find_shape(spec)
    for path in files.paths:
        try:
            layers = parse_layers(read_header(path).shapes)
        except NoWan22Lora as exc:
            return f"the file is {exc}"
        if shape is not None and (reason := _compare(layers, shape)):
            return reason
    return None


def check_is_lora(name: str, header: Header, served: Sequence[ModelSpec]) -> list[ModelSpec]:
    """Checks that a file holds a LoRA for any served model or any model of the catalogue.

    Returns:
        The served models that it fits.

    Raises:
        InvalidRequest: It does not.
    """
    try:
        layers = parse_layers(header.shapes)
    except NoWan22Lora as exc:
        raise incompatible(name, f"can't be used: the file is {exc}") from exc

    def fits(spec: ModelSpec) -> bool:
        shape = find_shape(spec)
        return shape is None or _compare(layers, shape) is None

    fitting = [spec for spec in served if fits(spec)]
    if not fitting and not any(map(fits, load_catalogue().values())):
        raise incompatible(name, f"fits no Wan2.2 model: {_explain_misfit(layers)}")
    return fitting


def _explain_misfit(layers: Sequence[LoraLayer]) -> str:
    """Returns why a LoRA fits no model of the catalogue, from the models of its own width if there are any."""
    shapes = [shape for spec in load_catalogue().values() if (shape := find_shape(spec)) is not None]
    width = _width(layers)
    similar = [shape for shape in shapes if shape.width == width]
    if width is not None and not similar:
        widths = sorted({shape.width for shape in shapes})
        return f"its width is {width}, and the models have {', '.join(map(str, widths))}"
    return _compare(layers, max(similar or shapes, key=lambda shape: shape.layers)) or "no model has all of its layers"


def _width(layers: Sequence[LoraLayer]) -> int | None:
    """Returns the width of the hidden states, if the layers of attention agree on it."""
    widths = {layer.in_channels for layer in layers if ".attn" in layer.name}
    return widths.pop() if len(widths) == 1 else None


def summarize(files: LoraFiles) -> LoraSummary:
    """Describes a LoRA from the headers of its files.

    Raises:
        InvalidRequest: A file holds no LoRA for a Wan2.2 model.
    """
    try:
        parsed = [parse_layers(read_header(path).shapes) for path in files.paths]
    except NoWan22Lora as exc:
        raise incompatible(files.name, f"can't be used: the file is {exc}") from exc
    layers = max(parsed, key=len)
    return LoraSummary(
        rank=max(layer.rank for file in parsed for layer in file),
        layers=len(layers),
        width=_width(layers),
    )


def changed_experts(files: LoraFiles, spec: ModelSpec) -> list[Expert]:
    """Returns the experts of a model for which a LoRA has a file."""
    experts = [Expert.HIGH_NOISE] if spec.type is ModelType.TI2V else list(Expert)
    return [expert for expert in experts if files.of(expert) is not None]


def incompatible(name: str, reason: str) -> InvalidRequest:
    """Returns the error for a LoRA that can't be used.

    Args:
        name: The LoRA's name.
        reason: What is wrong, as the rest of a sentence that begins with the name.
    """
    return InvalidRequest(
        f"The LoRA {name} {reason}.",
        code="lora_incompatible",
        param="loras",
        suggestions=["Use a LoRA that was trained for this model."],
    )


def _compare(layers: Sequence[LoraLayer], shape: TransformerShape) -> str | None:
    """Returns the first difference between a LoRA's layers and a transformer, or None."""
    for layer in layers:
        expected = shape.channels(layer.name)
        if expected is None:
            beyond = (block_number(layer.name) or 0) >= shape.layers
            return f"the model has no layer {layer.name[:80]}" + (f": it has {shape.layers} blocks" if beyond else "")
        for found, wanted in zip((layer.in_channels, layer.out_channels), reversed(expected), strict=True):
            if found != wanted:
                return (
                    f"the weights for {layer.name} have {found} channels, and this model has {wanted}: the LoRA is "
                    "for a model of another size"
                )
    return None
