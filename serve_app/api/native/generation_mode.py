"""The native API's routes for the generation mode."""

from fastapi import APIRouter

from deployments.jobs.generation_mode import GenerationMode
from serve_app.api.access.callers import NEEDS_ADMIN, NEEDS_READ
from serve_app.api.schemas.generation_mode import GenerationModeBody, GenerationModeChange
from serve_app.api.services import Serving

router = APIRouter(prefix="/api/v1/system/generation-mode", tags=["system"])


@router.get("", dependencies=[NEEDS_READ])
def read_mode(serving: Serving) -> GenerationModeBody:
    """Returns the generation mode."""
    return GenerationModeBody.of(GenerationMode.read(serving.store.settings))


@router.put("", dependencies=[NEEDS_ADMIN])
def change_mode(change: GenerationModeChange, serving: Serving) -> GenerationModeBody:
    """Changes the generation mode of jobs that are submitted from now on. It outlives a restart of the service."""
    return GenerationModeBody.of(GenerationMode.change(serving.store.settings, change.apply))
