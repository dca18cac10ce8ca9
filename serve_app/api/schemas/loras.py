"""Bodies of the native API's requests and responses about LoRAs."""

from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, StrictFloat

from deployments.jobs.lora_library import LoraDescription
from serve_app.api.schemas.links import to_datetime
from wan22_bridge.experts import Expert
from wan22_bridge.models.lora_files import LoraFiles

_Answer = ConfigDict(use_attribute_docstrings=True)


class LoraInfo(BaseModel):
    """A LoRA that the server knows."""

    model_config = _Answer

    name: str
    """Name by which requests use the LoRA."""
    filename: str
    """Name of the first file."""
    path: str
    """Name of the first file below the data folder, or below `builtin` for a LoRA of this package."""
    files: list[str]
    """Names of all files: one for both experts, or one for each expert."""
    experts: list[str]
    """Experts that the files are for: `high_noise`, `low_noise` or both."""
    size_mb: float
    """Size of all files in megabytes of 10^6 bytes."""
    modified_time: datetime
    is_builtin: bool
    """Whether the LoRA is part of this package. It can't be deleted."""
    is_loaded: bool
    """The same value as `is_applied`. Whether an idle replica still has the LoRA loaded is not known."""
    is_applied: bool
    """Whether a running job uses the LoRA."""
    current_strength: float
    """Strength on the high-noise expert in the newest running job that uses the LoRA; 0 without such a job."""
    model_type: str | None
    """Model type for which the LoRA was trained, as its metadata or its name tells; null if they do not tell."""
    trigger_words: list[str]
    """Words in the prompt that activate the LoRA, from its metadata or a file beside it. Often empty."""
    fits: list[str]
    """Ids of the served models that can use the LoRA, by the names and the shapes of its weights."""
    rank: int | None
    """Largest rank of a layer; null if the file is no LoRA for a Wan2.2 model."""
    width: int | None
    """Width of the model for which the LoRA was trained: 5120 is A14B, and 3072 is TI2V-5B."""
    problem: str | None
    """Why no served model can use the LoRA; null if one can."""

    @classmethod
    def of(cls, found: LoraDescription) -> "LoraInfo":
        """Describes a LoRA."""
        files, summary = found.files, found.summary
        uses = [use for job in found.running[:1] for use in job.params.loras if use.name == files.name]
        return cls(
            name=files.name,
            filename=files.paths[0].name,
            path=_public_path(files, files.paths[0]),
            files=[path.name for path in files.paths],
            experts=[expert.label for expert in Expert if files.of(expert) is not None],
            size_mb=_megabytes(files.size_bytes),
            modified_time=to_datetime(files.modified_at),
            is_builtin=files.is_builtin,
            is_loaded=bool(uses),
            is_applied=bool(uses),
            current_strength=uses[0].high_noise_strength if uses else 0.0,
            model_type=files.model_type,
            trigger_words=list(files.trigger_words),
            fits=[spec.id for spec in found.fits],
            rank=summary and summary.rank,
            width=summary and summary.width,
            problem=found.problem,
        )


class LoraList(BaseModel):
    """All LoRAs, sorted by name. Files that can't be read are left out."""

    model_config = _Answer

    loras: list[LoraInfo]
    total_count: int
    total_size_mb: float
    """Size of all files in megabytes of 10^6 bytes."""

    @classmethod
    def of(cls, found: list[LoraDescription]) -> "LoraList":
        """Describes all LoRAs."""
        return cls(
            loras=[LoraInfo.of(item) for item in found],
            total_count=len(found),
            total_size_mb=_megabytes(sum(item.files.size_bytes for item in found)),
        )


class LoraUpload(BaseModel):
    """A LoRA that was stored."""

    model_config = _Answer

    success: bool
    message: str
    """The experts that the file is for, and the models that can use it."""
    lora_name: str
    """Name by which requests use the LoRA."""
    file_path: str
    """Name of the file below the data folder."""
    size_mb: float
    """Size of the file in megabytes of 10^6 bytes."""
    lora: LoraInfo

    @classmethod
    def of(cls, found: LoraDescription, expert: Expert | None, *, local_only: bool) -> "LoraUpload":
        """Describes an upload.

        Args:
            found: The LoRA.
            expert: The expert that the uploaded file is for; None is both.
            local_only: Whether generators on other machines can't read the file.
        """
        files = found.files
        path = files.of(expert or Expert.HIGH_NOISE)
        assert path is not None
        experts = f"the {expert.label.replace('_', '-')} expert" if expert else "all experts"
        models = (
            f"Models that can use it: {', '.join(spec.id for spec in found.fits)}." if found.fits else found.problem
        )
        machines = (
            " It is stored on the machine that received it. Other machines need the same file in their data folder."
        )
        return cls(
            success=True,
            message=f"Stored {files.name} for {experts}. {models}{machines if local_only else ''}",
            lora_name=files.name,
            file_path=_public_path(files, path),
            size_mb=_megabytes(path.stat().st_size),
            lora=LoraInfo.of(found),
        )


class LoraStatus(LoraInfo):
    """A LoRA, and the jobs that use it."""

    exists: bool
    """Always true: an unknown name is a 404."""
    jobs: list[str]
    """Ids of the pending and running jobs that use the LoRA. Until they end, it can't be deleted."""


class LoraPreviewRequest(BaseModel):
    """A use of a LoRA to describe."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model_type: str = "auto"
    """A served model's id or type. `auto` chooses the first served model that the LoRA fits."""
    strength: StrictFloat = Field(default=1.0, ge=0, le=2, allow_inf_nan=False)
    """Strength on the high-noise expert, or on a model's only expert."""
    strength_2: StrictFloat | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    """Strength on the low-noise expert. By default the same as `strength`."""
    prompt: str = ""
    """Prompt to check for the LoRA's trigger words."""


class LoraPreview(BaseModel):
    """The changes that a LoRA would make in a job. No model runs for this description."""

    model_config = _Answer

    lora_name: str
    model: str
    """Id of the model."""
    compatible: bool
    """Whether a job with this model accepts the LoRA."""
    reason: str | None
    """Why the model can't use the LoRA; null if it can."""
    strengths: dict[str, float]
    """Strength for each expert that the LoRA changes. An expert without a file, or of strength 0, is not among them."""
    rank: int | None
    changed_layers: int
    """Number of layers that the LoRA changes in one expert."""
    trigger_words: list[str]
    base_prompt: str
    enhanced_prompt: str
    """The prompt with the trigger words that it lacks. The service never adds them by itself."""
    description: str
    """All of this in words."""


class LoraMemoryImpact(BaseModel):
    """Memory that a LoRA needs beside a model."""

    model_config = _Answer

    lora_name: str
    file_size_mb: float
    """Size of all files in megabytes of 10^6 bytes."""
    estimated_memory_mb: float
    """Memory while a job uses the LoRA: that of the larger of its files, because one expert works at a time."""
    vram_available_mb: float | None
    """Free memory of the live generators' GPU that has the most, in megabytes of 10^6 bytes. Null if no generator has
    reported a GPU, as on CPUs and while no generator runs."""
    can_load: bool
    """Whether a served model can use the LoRA, and the LoRA fits into the free GPU memory now, if that is known. A job
    is accepted in any case if a model can use the LoRA: its plan makes room by streaming or offloading the model."""
    memory_impact: str
    """`low`, `medium` or `high`: less than 5 %, less than 15 %, or more of the memory of an expert in bf16."""
    recommendation: str


def _public_path(files: LoraFiles, path: Path) -> str:
    """Returns a file's name below the data folder, because paths on the server are not shown."""
    return f"{'builtin' if files.is_builtin else 'loras'}/{path.name}"


def _megabytes(size_bytes: int) -> float:
    return round(size_bytes / 1e6, 3)
