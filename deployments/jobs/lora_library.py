"""The folder of LoRAs: uploads, deletions and descriptions of its files, and the jobs that use them."""

import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deployments.jobs.job import Job, JobState
from deployments.jobs.store import JobStore
from wan22_bridge.builtin import BUILTIN_LORAS
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import Conflict, InvalidRequest, NotFound, StorageFailed, storage_failed
from wan22_bridge.experts import Expert
from wan22_bridge.files import atomic_path, locked
from wan22_bridge.models.lora_files import (
    EXPERT_ENDINGS,
    SUFFIX,
    LoraFiles,
    check_size,
    find_lora,
    is_lora_name,
    list_loras,
    lora_paths,
    split_file_name,
    unreadable,
)
from wan22_bridge.models.lora_fit import LoraSummary, check_is_lora, find_misfit, summarize
from wan22_bridge.models.lora_names import LoraTarget, guess_expert
from wan22_bridge.models.safetensors_header import UnreadableHeader, parse_header

logger = logging.getLogger("ray.serve")

_COPY_BYTES = 2**20
_LEFTOVER_RETENTION_SECONDS = 24 * 3600.0
"""Age at which the temporary file of an interrupted upload is removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoraDescription:
    """A LoRA, and what its files tell about its use."""

    files: LoraFiles
    summary: LoraSummary | None
    """Content of the files; None if they hold no LoRA for a Wan2.2 model."""
    problem: str | None
    """Why no served model can use the LoRA; None if one can."""
    fits: list[ModelSpec]
    """Served models that can use the LoRA."""
    running: list[Job]
    """Running jobs that use the LoRA."""


class LoraLibrary:
    """Manages the folder of LoRAs."""

    def __init__(self, store: JobStore, folder: Path, served: Sequence[ModelSpec]) -> None:
        self._store, self._folder, self._served = store, folder, served

    def describe_all(self) -> list[LoraDescription]:
        """Describes all readable LoRAs, sorted by name."""
        running = [job for job in self._running() if job.params.loras]
        return [self._describe(files, running) for files in list_loras(self._folder)]

    def describe(self, name: str) -> LoraDescription:
        """Describes one LoRA.

        Raises:
            NotFound: There is no such LoRA.
            InvalidRequest: Its file can't be read.
        """
        return self._describe(self.find(name), self._running())

    def find(self, name: str) -> LoraFiles:
        """Finds a LoRA that is named in a route.

        Raises:
            NotFound: There is no such LoRA.
            InvalidRequest: Its file can't be read.
        """
        try:
            return find_lora(self._folder, name)
        except InvalidRequest as exc:
            if exc.code != "lora_not_found":
                raise
            raise NotFound(exc.message, code=exc.code, suggestions=exc.suggestions) from exc

    def add(
        self,
        file: IO[bytes],
        size_bytes: int,
        *,
        file_name: str,
        name: str | None = None,
        target: LoraTarget | None = None,
        replace: bool = False,
        admit: Callable[[], None] = lambda: None,
    ) -> tuple[LoraFiles, Expert | None]:
        """Stores an uploaded LoRA. The file is on disk when this returns.

        Args:
            file: The upload, at its beginning.
            size_bytes: Size of the upload.
            file_name: The client's name for the file. Without `name`, it decides the LoRA's name.
            name: Name of the LoRA.
            target: The experts that the file is for. By default the one that a name tells, else both.
            replace: Whether to replace a LoRA of the same name.
            admit: Called before the file is stored; raises an error if the client may store none.

        Returns:
            The LoRA, and the expert that the uploaded file is for; None is both.

        Raises:
            InvalidRequest: The name is not valid, or the file holds no LoRA for a Wan2.2 model.
            Conflict: There is a LoRA of this name, or a job uses it.
            StorageFailed: The file could not be written.
        """
        name, expert = _choose_name(file_name, name, target)
        check_size(name, size_bytes)
        try:
            header = parse_header(file, size_bytes)
        except UnreadableHeader as exc:
            raise _about_upload(unreadable(name, exc)) from exc
        try:
            check_is_lora(name, header, self._served)
        except InvalidRequest as exc:
            raise _about_upload(exc) from exc
        admit()
        file.seek(0)
        path = self._folder / f"{name}{EXPERT_ENDINGS[expert]}{SUFFIX}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
            with locked(self._folder / ".lock"):
                replaced = self._check_replaceable(path, name, expert, replace)
                with atomic_path(path) as temporary, temporary.open("wb") as copy:
                    shutil.copyfileobj(file, copy, _COPY_BYTES)
                for old in replaced:
                    old.unlink(missing_ok=True)
        except OSError as exc:
            raise storage_failed(
                f"The LoRA {name} could not be stored: {exc.strerror}.", exc, suggestions=["Check the server's disk."]
            ) from exc
        logger.info("Stored the LoRA %s", name, extra={"action": "lora_stored"})
        return find_lora(self._folder, name), expert

    def remove(self, name: str) -> None:
        """Removes a LoRA's files.

        Raises:
            NotFound: There is no such LoRA.
            Conflict: The LoRA is built in, or a pending or running job uses it.
            StorageFailed: A file could not be removed.
        """
        paths = lora_paths(self._folder, name)
        if not paths:
            self.find(name)
            raise Conflict(f"The LoRA {name} is built in and can't be deleted.", code="lora_built_in", param="name")
        self._check_unused(name, "deleted")
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as exc:
            raise StorageFailed(f"The LoRA {name} could not be deleted: {exc.strerror}.") from exc
        logger.info("Deleted the LoRA %s", name, extra={"action": "lora_deleted"})

    def _describe(self, files: LoraFiles, running: Sequence[Job]) -> LoraDescription:
        try:
            summary, problem = summarize(files), None
        except InvalidRequest as exc:
            summary, problem = None, exc.message
        misfits = {spec.id: find_misfit(files, spec) for spec in self._served}
        if summary is not None and all(misfits.values()):
            problem = f"The LoRA {files.name} fits no served model: {next(iter(misfits.values()))}."
        return LoraDescription(
            files=files,
            summary=summary,
            problem=problem,
            fits=[spec for spec in self._served if misfits[spec.id] is None],
            running=[job for job in running if any(use.name == files.name for use in job.params.loras)],
        )

    def _running(self) -> list[Job]:
        return self._store.reader.page(states=[JobState.PROCESSING], limit=1000)

    def _check_replaceable(self, path: Path, name: str, expert: Expert | None, replace: bool) -> list[Path]:
        """Returns the files that a new file makes useless, or raises Conflict if it must not replace them.

        The file for one expert joins the file for the other expert: both are a pair.
        """
        existing = lora_paths(self._folder, name)
        superseded = [old for old in existing if old == path or None in (expert, split_file_name(old.name)[1])]
        hides_builtin = not existing and bool(lora_paths(BUILTIN_LORAS, name))
        if (superseded or hides_builtin) and not replace:
            raise Conflict(
                f"There is a LoRA {name} already.",
                code="lora_exists",
                param="name",
                suggestions=["Send another name.", "Send replace=true to replace it."],
            )
        self._check_unused(name, "changed")
        return [old for old in superseded if old != path]

    def _check_unused(self, name: str, change: str) -> None:
        if users := self._store.reader.using_lora(name):
            raise Conflict(
                f"The LoRA {name} can't be {change}: {len(users)} pending or running "
                f"{'job uses' if len(users) == 1 else 'jobs use'} it, the first is {users[0].id}.",
                code="lora_in_use",
                param="name",
                suggestions=["Wait until these jobs have ended, or cancel them."],
                can_retry=True,
            )

    def _remove_leftovers(self) -> None:
        for path in self._folder.glob(f".*{SUFFIX}"):
            if path.stat().st_mtime < time.time() - _LEFTOVER_RETENTION_SECONDS:
                path.unlink(missing_ok=True)


def _choose_name(file_name: str, name: str | None, target: LoraTarget | None) -> tuple[str, Expert | None]:
    """Returns the LoRA's name and its file's expert; None is both experts.

    Raises:
        InvalidRequest: The name is not valid.
    """
    base_name = file_name.replace("\\", "/").rpartition("/")[2]
    chosen, told = guess_expert(split_file_name(base_name))
    if name is not None:
        chosen, expert = split_file_name(name)
        told = expert or told
    if target is not None:
        told = target.expert
    if not is_lora_name(chosen):
        raise InvalidRequest(
            f"{chosen[:120]!r} can't be the name of a LoRA: expected 1 to 100 letters, digits, underscores and "
            "hyphens, with dots and spaces between them.",
            code="invalid_lora_name",
            param="name",
            suggestions=["Send another name as the field name."],
        )
    return chosen, told


def _about_upload(error: InvalidRequest) -> InvalidRequest:
    error.param = "file"
    return error
