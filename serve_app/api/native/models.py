"""The native API's routes for models: their files, and the replicas that have them loaded."""

from fastapi import APIRouter

from deployments.downloader import Presence
from serve_app.api.access.callers import NEEDS_ADMIN, NEEDS_READ, Administering
from serve_app.api.downloading import ask, look, read_statuses
from serve_app.api.schemas.models import (
    DownloadAnswer,
    DownloadProgress,
    DownloadRequest,
    ModelStatus,
    Summary,
    Verification,
    VerificationCancelled,
    status_of,
)
from serve_app.api.services import Services, Serving
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import NotFound, Wan22Error
from wan22_bridge.requests import choose_model

router = APIRouter(prefix="/api/v1/models", tags=["models"])


@router.get("/status", dependencies=[NEEDS_READ])
async def list_model_statuses(serving: Serving) -> dict[str, ModelStatus]:
    """Returns the status of all served models, by id."""
    return await read_statuses(serving, serving.served)


@router.get("/status/{model_type}", dependencies=[NEEDS_READ])
async def read_model_status(model_type: str, serving: Serving) -> ModelStatus:
    """Returns the status of a served model, which is named by its id or type."""
    spec = _find(serving, model_type)
    return (await read_statuses(serving, [spec]))[spec.id]


@router.get("/summary", dependencies=[NEEDS_READ])
@router.get("/integration/status", operation_id="read_integration_status", dependencies=[NEEDS_READ])
async def summarize_models(serving: Serving) -> Summary:
    """Returns how many models are available and loaded, and which replica has which model loaded."""
    found, replicas = await look(serving)
    models = {spec.id: status_of(spec, found[spec.id], replicas) for spec in serving.served}
    return Summary(
        total_models=len(models),
        available_models=sum(status in ("available", "loaded") for status in models.values()),
        loaded_models=sum(status == "loaded" for status in models.values()),
        downloading_models=sum(status == "downloading" for status in models.values()),
        models=models,
        replicas=replicas,
    )


@router.post("/download")
async def download_model(request: DownloadRequest, serving: Serving, caller: Administering) -> DownloadAnswer:
    """Starts the download of a model, so that the first job need not wait for it."""
    spec = _find(serving, request.model_type)
    caller.notes["model"] = spec.id
    found, _ = await look(serving)
    if found[spec.id].presence is Presence.AVAILABLE and not (request.force_redownload and spec.is_fetched):
        return DownloadAnswer(message=f"The files of {spec.id} are complete.", model_type=spec.type, status="available")
    await ask(serving.downloader.start.remote(spec.id, request.force_redownload))
    return DownloadAnswer(message=f"{spec.id} is being downloaded.", model_type=spec.type, status="downloading")


@router.post("/download/{model_type}/cancel", dependencies=[NEEDS_ADMIN])
async def cancel_model_download(model_type: str, serving: Serving) -> DownloadAnswer:
    """Stops the download of a model. The next download resumes from the data that has arrived."""
    spec = _find(serving, model_type)
    await ask(serving.downloader.stop.remote(spec.id))
    found, _ = await look(serving)
    return DownloadAnswer(
        message=f"{spec.id} is not being downloaded.", model_type=spec.type, status=found[spec.id].presence
    )


@router.get("/download/progress", dependencies=[NEEDS_READ])
async def list_download_progresses(serving: Serving) -> dict[str, DownloadProgress]:
    """Returns the download progress of all served models, by id."""
    found, _ = await look(serving)
    return {spec.id: DownloadProgress.of(spec, found[spec.id]) for spec in serving.served}


@router.get("/download/progress/{model_type}", dependencies=[NEEDS_READ])
async def read_download_progress(model_type: str, serving: Serving) -> DownloadProgress:
    """Returns the download progress of a served model, which is named by its id or type."""
    spec = _find(serving, model_type)
    found, _ = await look(serving)
    return DownloadProgress.of(spec, found[spec.id])


@router.post("/verify/{model_type}", dependencies=[NEEDS_ADMIN])
async def verify_model(model_type: str, serving: Serving) -> Verification:
    """Checks a model's files by their hashes, and downloads missing and corrupted files again.

    The check takes minutes for a large model. A request while the model is being checked waits for the same check. It
    responds with 409 if the check is cancelled.
    """
    spec = _find(serving, model_type)
    issues: dict[str, str] = await ask(serving.downloader.verify.remote(spec.id), seconds=None)
    error = None
    if issues:
        try:
            await ask(serving.downloader.ensure.remote(spec.id), seconds=None)
        except Wan22Error as exc:
            error = exc.message
    recovered = bool(issues) and error is None
    return Verification(
        model_type=spec.type,
        model_id=spec.id,
        is_valid=not issues or recovered,
        issues_found=[f"{path}: {state}" for path, state in issues.items()],
        recovery_attempted=bool(issues),
        recovery_successful=recovered,
        details=error or ("The files were downloaded again." if recovered else "All files are correct."),
    )


@router.post("/verify/{model_type}/cancel", dependencies=[NEEDS_ADMIN])
async def cancel_model_verification(model_type: str, serving: Serving) -> VerificationCancelled:
    """Stops the check of a model's files. The requests that wait for it respond with 409."""
    spec = _find(serving, model_type)
    stopped: bool = await ask(serving.downloader.stop_verification.remote(spec.id))
    message = f"The verification of {spec.id} was stopped." if stopped else f"{spec.id} is not being verified."
    return VerificationCancelled(message=message, model_type=spec.type, model_id=spec.id, was_running=stopped)


def _find(serving: Services, name: str) -> ModelSpec:
    try:
        return choose_model(serving.served, name)
    except Wan22Error as exc:
        raise NotFound(exc.message, code="unknown_model", suggestions=exc.suggestions) from exc
