"""The downloader deployment, which makes the files of models available."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from deployments.replica_ports import keep_replica_port_local
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import Conflict, DownloadFailed, ModelMissing, Wan22Error
from wan22_bridge.fetching import (
    MANIFEST_NAME,
    FetchProgress,
    FetchStopped,
    FileState,
    check_files,
    has_damage,
    mark_damage,
    record_damage,
)
from wan22_bridge.fetching.downloads import ensure_model, find_model, is_corrupted, read_model_manifest

logger = logging.getLogger("ray.serve")


class Presence(StrEnum):
    """The state of a model's files on this machine."""

    MISSING = "missing"
    DOWNLOADING = "downloading"
    AVAILABLE = "available"
    CORRUPTED = "corrupted"
    """A file differs from what was downloaded. The next download replaces it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Availability:
    """The state of a model's files, and of their download."""

    presence: Presence
    done_bytes: int = 0
    total_bytes: int | None = None
    """None while the size is unknown."""
    bytes_per_second: float = 0.0
    eta_seconds: float | None = None
    error: dict[str, Any] | None = None
    """The error of the last download, in the form of the API's inner error object."""
    for_jobs: bool = False
    """Whether only pending jobs need the download, so that it is stopped once none of them is left."""
    verified_bytes: int | None = None
    """Number of bytes that a running verification has read; None without one."""


@dataclass(kw_only=True, slots=True)
class _Fetch:
    progress: FetchProgress
    task: "asyncio.Task[Path]"
    for_jobs: bool


@dataclass(kw_only=True, slots=True)
class _Verification:
    progress: FetchProgress
    task: "asyncio.Task[dict[str, str]]"


class Downloader:
    """Finds, creates or downloads the folders of models. Each service has one downloader."""

    def __init__(self, models_dir: Path, served: Sequence[ModelSpec], cast: bool) -> None:
        keep_replica_port_local()
        self._models_dir = models_dir
        self._served = {spec.id: spec for spec in served}
        self._cast = cast
        self._fetches: dict[str, _Fetch] = {}
        self._verifications: dict[str, _Verification] = {}
        self._errors: dict[str, dict[str, Any]] = {}
        self._folders: dict[str, Path] = {}

    async def ensure(self, model_id: str, check_content: bool = False) -> Path:
        """Returns the folder of a served model, downloading the model first if it is missing.

        Args:
            model_id: id of the model.
            check_content: whether to hash the files, because one could not be loaded. Only the corrupted files are
                downloaded again.

        Raises:
            ModelMissing: the model is not served or can't be downloaded.
            DownloadFailed: the download failed or was stopped.
        """
        if model_id not in self._served:
            raise ModelMissing(
                f"The model {model_id} is no longer served.", suggestions=["Submit the job for another model."]
            )
        if model_id in self._folders and not check_content:
            return self._folders[model_id]
        if check_content and self._served[model_id].is_fetched:
            await asyncio.to_thread(mark_damage, self._models_dir / model_id)
            self._folders.pop(model_id, None)
        fetch = self._fetches.get(model_id) or self._begin(model_id, check_content, for_jobs=False)
        try:
            return await asyncio.shield(fetch.task)
        except FetchStopped:
            raise _stopped(model_id) from None

    async def folder(self, model_id: str) -> Path | None:
        """Returns the folder of a served model, or None if it is missing or corrupted."""
        if self._served[model_id].is_fetched and await asyncio.to_thread(has_damage, self._models_dir / model_id):
            self._folders.pop(model_id, None)
        if model_id not in self._folders and model_id not in self._fetches:
            found = await asyncio.to_thread(find_model, self._served[model_id], self._models_dir)
            if found is not None:
                self._folders[model_id] = found
        return self._folders.get(model_id)

    async def start(self, model_id: str, check_content: bool = False, for_jobs: bool = False) -> None:
        """Starts the download of a model, which `availability` then reports.

        Args:
            model_id: id of the model.
            check_content: whether to hash the files that are there already.
            for_jobs: whether only pending jobs need the model.
        """
        if model_id not in self._fetches:
            self._begin(model_id, check_content, for_jobs)
        elif not for_jobs:
            self._fetches[model_id].for_jobs = False

    async def stop(self, model_id: str) -> None:
        """Stops a download. A later download resumes from the files that have arrived."""
        if model_id in self._fetches:
            self._fetches[model_id].progress.stop()

    async def verify(self, model_id: str) -> dict[str, str]:
        """Hashes the files of a downloaded model and returns the state of each file that is missing or corrupted.

        A model with such files is not used before a download has replaced them, also after a restart of the service.
        A call while the model is being verified waits for that verification. It goes on if the callers are gone.

        Raises:
            Conflict: the verification was stopped.
        """
        running = self._verifications.get(model_id) or self._begin_verification(model_id)
        try:
            return await asyncio.shield(running.task)
        except FetchStopped:
            raise Conflict(
                f"The verification of {model_id} was stopped.",
                code="verification_stopped",
                suggestions=["Verify the model again: the verification starts over."],
                can_retry=True,
            ) from None

    async def stop_verification(self, model_id: str) -> bool:
        """Stops the verification of a model, and returns whether there was one."""
        running = self._verifications.get(model_id)
        if running is None:
            return False
        running.progress.stop()
        await asyncio.wait([running.task])
        return True

    def _begin_verification(self, model_id: str) -> _Verification:
        progress = FetchProgress()
        task = asyncio.create_task(self._verify(model_id, progress))
        self._verifications[model_id] = _Verification(progress=progress, task=task)

        def forget(ended: "asyncio.Task[dict[str, str]]") -> None:
            del self._verifications[model_id]
            if not ended.cancelled():
                ended.exception()  # read here, because every caller may be gone

        task.add_done_callback(forget)
        return self._verifications[model_id]

    async def _verify(self, model_id: str, progress: FetchProgress) -> dict[str, str]:
        spec, folder = self._served[model_id], self._models_dir / model_id
        manifest = await asyncio.to_thread(read_model_manifest, spec, self._models_dir)
        if not spec.is_fetched:
            return {}
        if manifest is None:
            return {MANIFEST_NAME: FileState.MISSING.value}
        states = await asyncio.to_thread(check_files, folder, manifest, content=True, report=progress.add)
        wrong = {path: state.value for path, state in states.items() if state is not FileState.GOOD}
        if model_id not in self._fetches:
            await asyncio.to_thread(record_damage, folder, states)
        if wrong:
            self._folders.pop(model_id, None)
        return wrong

    async def availability(self) -> dict[str, Availability]:
        """Returns the availability of all served models."""
        return {model_id: await self._availability(model_id) for model_id in self._served}

    async def _availability(self, model_id: str) -> Availability:
        fetch = self._fetches.get(model_id)
        if fetch is not None:
            progress = fetch.progress
            return Availability(
                presence=Presence.DOWNLOADING,
                done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes,
                bytes_per_second=progress.bytes_per_second,
                eta_seconds=progress.eta_seconds,
                for_jobs=fetch.for_jobs,
            )
        folder = await self.folder(model_id)
        if folder is None:
            damaged = await asyncio.to_thread(is_corrupted, self._served[model_id], self._models_dir)
            return Availability(
                presence=Presence.CORRUPTED if damaged else Presence.MISSING, error=self._errors.get(model_id)
            )
        size = await asyncio.to_thread(_size, folder)
        verification = self._verifications.get(model_id)
        return Availability(
            presence=Presence.AVAILABLE,
            done_bytes=size,
            total_bytes=size,
            error=self._errors.get(model_id),
            verified_bytes=None if verification is None else verification.progress.done_bytes,
        )

    def _begin(self, model_id: str, check_content: bool, for_jobs: bool) -> _Fetch:
        self._errors.pop(model_id, None)
        progress = FetchProgress()
        task = asyncio.create_task(self._fetch(model_id, progress, check_content))
        fetch = _Fetch(progress=progress, task=task, for_jobs=for_jobs)
        self._fetches[model_id] = fetch
        return fetch

    async def _fetch(self, model_id: str, progress: FetchProgress, check_content: bool) -> Path:
        extra = {"action": "model_fetch_failed", "model": model_id}
        try:
            folder = await asyncio.to_thread(
                ensure_model,
                self._served[model_id],
                self._models_dir,
                progress,
                cast=self._cast,
                check_content=check_content,
            )
        except FetchStopped:
            logger.info("The download of %s was stopped", model_id, extra=extra | {"action": "model_fetch_stopped"})
            self._errors[model_id] = _stopped(model_id).to_dict()
            raise
        except Wan22Error as exc:
            # Without the traceback: the URL in the cause may hold a signature.
            logger.error("The download of model %s failed: %s", model_id, exc.message, extra=extra)
            self._errors[model_id] = exc.to_dict()
            raise
        except Exception as exc:
            logger.exception("The download of model %s failed", model_id, extra=extra)
            failed = DownloadFailed(f"The download of {model_id} failed with an unexpected {type(exc).__name__}.")
            self._errors[model_id] = failed.to_dict()
            raise failed from exc
        finally:
            del self._fetches[model_id]
        self._folders[model_id] = folder
        logger.info("Model %s is available", model_id, extra={"action": "model_available", "model": model_id})
        return folder


def _stopped(model_id: str) -> DownloadFailed:
    return DownloadFailed(
        f"The download of {model_id} was stopped.",
        code="download_stopped",
        suggestions=["Submit the job again. The download resumes where it stopped."],
        can_retry=True,
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
