"""The native API's routes for the generation mode."""

from fastapi import APIRouter

from deployments.jobs.generation_mode import GenerationMode
from serve_app.api.access.callers import NEEDS_READ, Administering
from serve_app.api.schemas.generation_mode import GenerationModeBody, GenerationModeChange
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1/system/generation-mode", tags=["system"])


@router.get("", dependencies=[NEEDS_READ])
def read_mode(serving: Serving) -> GenerationModeBody:
    """Returns the generation mode."""
    return GenerationModeBody.of(GenerationMode.read(serving.store.settings))


@router.put("")
def change_mode(change: GenerationModeChange, serving: Serving, caller: Administering) -> GenerationModeBody:
    """Changes the generation mode of jobs that are submitted from now on. It outlives a restart of the service."""
    caller.notes.update(change.model_dump(mode="json", exclude_unset=True))
    return GenerationModeBody.of(GenerationMode.change(serving.store.settings, change.apply))
