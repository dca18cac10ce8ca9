"""The native API's routes for LoRAs."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from deployments.jobs.lora_library import LoraDescription
from deployments.system_stats import list_gpus
from serve_app.api.access.callers import NEEDS_ADMIN, NEEDS_READ, Administering, Caller, Reading
from serve_app.api.http.bodies import check_names
from serve_app.api.lora_effects import describe_effect, estimate_memory
from serve_app.api.schemas.loras import (
    LoraInfo,
    LoraList,
    LoraMemoryImpact,
    LoraPreview,
    LoraPreviewRequest,
    LoraStatus,
    LoraUpload,
)
from serve_app.api.schemas.tasks import Message
from serve_app.api.services import Services, Serving
from serve_app.api.submission import describe_form
from wan22_bridge.errors import InvalidRequest, storage_failed
from wan22_bridge.models.lora_names import LoraTarget

UPLOAD_PATH = "/api/v1/lora/upload"
"""Path of the upload, whose body may be larger than that of other routes."""

router = APIRouter(prefix="/api/v1/lora", tags=["loras"])

_FLAGS = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False, "": False}
_UPLOAD_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The LoRA, a .safetensors file."},
        "name": {"type": "string", "description": "Name of the LoRA. By default that of the file."},
        "expert": {
            "type": "string",
            "enum": [target.value for target in LoraTarget],
            "description": "The experts that the file is for. By default the one that the file's name tells by "
            "`HIGH`, `LOW`, `high_noise` or `low_noise`, else both. Two files of one name become a pair.",
        },
        "replace": {
            "type": "boolean",
            "default": False,
            "description": "Whether to replace a LoRA of the same name.",
        },
    },
}


@router.get("/list", dependencies=[NEEDS_READ])
def list_loras(serving: Serving) -> LoraList:
    """Returns all LoRAs in the folder of LoRAs, and the built-in ones. Files that can't be read are left out."""
    return LoraList.of(serving.loras.describe_all())


@router.post("/upload", openapi_extra=describe_form(_UPLOAD_SCHEMA))
async def upload_lora(request: Request, serving: Serving, caller: Administering) -> LoraUpload:
    """Stores a LoRA, after its header was checked: the file must hold a LoRA that fits a Wan2.2 model."""
    size = request.headers.get("content-length", "")
    await run_in_threadpool(serving.disk.require, int(size) if size.isdecimal() else 0)
    try:
        async with request.form(max_files=1, max_fields=len(_UPLOAD_SCHEMA["properties"])) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile) or not file.size:
                raise InvalidRequest(
                    "The request has no file.",
                    code="file_required",
                    param="file",
                    suggestions=["Send the .safetensors file as file in multipart/form-data."],
                )
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            stored = await run_in_threadpool(_store, serving, caller, file, fields)
            caller.notes["lora"] = stored.lora_name
            return stored
    except HTTPException as exc:
        raise InvalidRequest(f"The form can't be read: {exc.detail}", code="invalid_form") from exc
    except OSError as exc:  # the form is written to a temporary file while it arrives
        raise storage_failed(f"The upload could not be received: {exc.strerror}.", exc) from exc


@router.get("/{name}/status")
def read_lora_status(name: str, serving: Serving, caller: Reading) -> LoraStatus:
    """Returns a LoRA, and the pending and running jobs that use it."""
    info = LoraInfo.of(serving.loras.describe(name))
    jobs = [job.id for job in serving.store.reader.using_lora(name, owner=caller.only)]
    return LoraStatus(**info.model_dump(), exists=True, jobs=jobs)


@router.delete("/{name}", dependencies=[NEEDS_ADMIN])
def delete_lora(name: str, serving: Serving) -> Message:
    """Deletes a LoRA's files. Responds 409 while a pending or running job uses the LoRA."""
    serving.loras.remove(name)
    return Message(message="Deleted.")


@router.post("/{name}/preview", dependencies=[NEEDS_READ])
def preview_lora(name: str, serving: Serving, use: LoraPreviewRequest | None = None) -> LoraPreview:
    """Describes what a LoRA would change in a job with a model and strengths. No model runs, and nothing is stored."""
    return describe_effect(serving, serving.loras.describe(name), use or LoraPreviewRequest())


@router.get("/{name}/memory-impact", dependencies=[NEEDS_READ])
def read_lora_memory_impact(name: str, serving: Serving) -> LoraMemoryImpact:
    """Estimates the memory that a LoRA needs beside a model, and compares it with the free memory of the GPUs."""
    return estimate_memory(serving.loras.describe(name), list_gpus(serving.replicas.all()))


def _store(serving: Services, caller: Caller, file: UploadFile, fields: dict[str, str]) -> LoraUpload:
    check_names(fields, _UPLOAD_SCHEMA["properties"])
    expert = fields.get("expert") or None
    if expert is not None and expert not in list(LoraTarget):
        raise _invalid("expert", expert, list(LoraTarget))
    replace = fields.get("replace", "").lower()
    if replace not in _FLAGS:
        raise _invalid("replace", replace, ["true", "false"])
    serving.disk.require(file.size or 0)
    files, told = serving.loras.add(
        file.file,
        file.size or 0,
        file_name=file.filename or "",
        name=fields.get("name") or None,
        target=LoraTarget(expert) if expert else None,
        replace=_FLAGS[replace],
        admit=lambda: serving.store.usage.take_uploads(caller.account, [file.size or 0]),
    )
    found: LoraDescription = serving.loras.describe(files.name)
    return LoraUpload.of(found, told, local_only=serving.settings.storage_url is not None)


def _invalid(name: str, value: str, expected: list[str]) -> InvalidRequest:
    return InvalidRequest(
        f"{name}: expected {' or '.join(expected)}, got {value[:80]!r}.", code="invalid_value", param=name
    )
