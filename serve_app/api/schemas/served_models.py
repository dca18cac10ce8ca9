"""Bodies of the responses about the served models: their inputs, limits and defaults, as the catalogue has them."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from wan22_bridge.catalogue import ImageInput, ModelSpec, Preset


class PresetValues(BaseModel):
    """Defaults that a preset changes. Null stands for the model's own default."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    steps: int | None
    guidance_scale: float | None
    guidance_scale_2: float | None
    flow_shift: float | None
    negative_prompt: str | None
    loras: list[str]
    """LoRAs that the preset adds at full strength."""

    @classmethod
    def of(cls, preset: Preset) -> "PresetValues":
        """Describes a preset."""
        return cls(
            steps=preset.steps,
            guidance_scale=preset.guidance_scale,
            guidance_scale_2=preset.guidance_scale_2,
            flow_shift=preset.flow_shift,
            negative_prompt=preset.negative_prompt,
            loras=list(preset.loras),
        )


class Model(BaseModel):
    """A served model, with its defaults and its limits."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "wan22-serve"
    model_type: str
    title: str
    """Name of the model for people."""
    image: str
    """Whether the model accepts an image as first frame: `none`, `optional` or `required`."""
    end_image: bool
    """Whether the model accepts an image as last frame."""
    video: bool
    """Whether the model supports video-to-video."""
    presets: list[str]
    """Names of the model's presets."""
    size: str
    """Default size, WIDTHxHEIGHT in pixels."""
    sizes: list[str]
    """Sizes that suit the model, WIDTHxHEIGHT in pixels."""
    num_frames: int
    """Default number of frames."""
    max_frames: int
    """Maximum number of frames."""
    fps: int
    """Default frames per second."""
    steps: int
    """Default number of denoising steps."""
    size_multiple: int
    """Number that divides every width and height; other sizes are rounded down."""
    max_pixels: int
    """Maximum number of pixels of a frame."""
    guidance_scale: float
    """Default guidance scale of the high-noise expert, or of the model's only expert."""
    guidance_scale_2: float | None
    """Default guidance scale of the low-noise expert; null for a model with one expert."""
    flow_shift: float
    """Default flow shift."""
    negative_prompt: str
    """Default negative prompt."""
    preset_values: dict[str, PresetValues]
    """Defaults that each preset changes."""
    examples: list[str]
    """Prompts that suit the model, for people who try it."""

    @classmethod
    def of(cls, spec: ModelSpec) -> "Model":
        """Describes a served model."""
        return cls(
            id=spec.id,
            model_type=spec.type.value,
            title=spec.title,
            image=spec.image.value,
            end_image=spec.end_image,
            video=spec.video,
            presets=list(spec.presets),
            size=f"{spec.size[0]}x{spec.size[1]}",
            sizes=[f"{width}x{height}" for width, height in spec.sizes],
            num_frames=spec.num_frames,
            max_frames=spec.max_frames,
            fps=spec.fps,
            steps=spec.steps,
            size_multiple=spec.size_multiple,
            max_pixels=spec.max_pixels,
            guidance_scale=spec.guidance_scale,
            guidance_scale_2=spec.guidance_scale_2,
            flow_shift=spec.flow_shift,
            negative_prompt=spec.negative_prompt,
            preset_values={name: PresetValues.of(preset) for name, preset in spec.presets.items()},
            examples=list(spec.examples),
        )


class ModelInfo(BaseModel):
    """The default model, as SGLang's clients ask for it."""

    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())

    model_path: str
    """The model's repository on the hub; a built-in model, and one of a folder, has its id here."""
    model_id: str
    model_type: str
    tokenizer_path: str
    """The same as `model_path`."""
    is_generation: Literal[True] = True
    task_type: Literal["text-to-video", "image-to-video"]
    models: list[str]
    """Ids of all served models."""

    @classmethod
    def of(cls, served: Sequence[ModelSpec]) -> "ModelInfo":
        """Describes the first served model."""
        spec = served[0]
        path = spec.source_ref if spec.is_fetched else spec.id
        return cls(
            model_path=path,
            model_id=spec.id,
            model_type=spec.type.value,
            tokenizer_path=path,
            task_type="image-to-video" if spec.image is ImageInput.REQUIRED else "text-to-video",
            models=[spec.id for spec in served],
        )


class ModelList(BaseModel):
    """The served models."""

    object: Literal["list"] = "list"
    data: list[Model]
