"""Inputs of requests: images and videos, sent as files, as the ids of uploads and of jobs, or as URLs."""

from dataclasses import asdict, dataclass, replace
from typing import TypeGuard

from deployments.jobs.job import JOB_ID_PREFIX
from deployments.jobs.store import JobStore
from deployments.network.remote_files import RemoteFiles, Unreadable
from deployments.storage.keys import input_key, upload_key
from deployments.storage.protocol import Storage
from wan22_bridge.errors import InvalidRequest, NotFound, Wan22Error
from wan22_bridge.media.inputs import check_image, check_video
from wan22_bridge.media.videos import is_video
from wan22_bridge.requests import GenerationRequest, InputImage, InputVideo
from wan22_bridge.types import INPUTS, GenerationParams


@dataclass(frozen=True, slots=True)
class InputUrl:
    """An input on another server."""

    url: str


Source = bytes | str | InputUrl
"""An input: a file's content, the id of an upload, the id of a completed job, which stands for its video, or a URL."""


class Inputs:
    """Reads and checks the inputs of requests."""

    def __init__(self, store: JobStore, storage: Storage, remote_files: RemoteFiles | None) -> None:
        """Takes the places of the files that inputs may name.

        Args:
            store: the store of the jobs.
            storage: the storage of uploads and videos.
            remote_files: downloads files from other servers; None if the service downloads none.
        """
        self._store, self._storage, self._remote_files = store, storage, remote_files

    def take(
        self, request: GenerationRequest, *, only: str | None = None, **sources: Source | None
    ) -> tuple[GenerationRequest, dict[str, bytes]]:
        """Returns a request with further inputs, and the inputs' contents by their names. Nothing is stored.

        Args:
            request: the request without these inputs.
            only: the only owner whose uploads and jobs the inputs may name; None for all.
            **sources: the inputs by the names in INPUTS, None for an input that is not there.

        Raises:
            InvalidRequest: an input can't be read, or its id is unknown.
            JobNotFound: an input names a job that does not exist.
            Conflict: an input names a job that has no video yet.
            NotFound: an input names a job that ended without a video.
        """
        contents = {name: self._read(source, name, only) for name, source in sources.items() if source is not None}
        request = replace(
            request,
            image=self.examine(contents["image"], "image") if "image" in contents else request.image,
            end_image=(
                self._examine_image(contents["end_image"], "end_image")
                if "end_image" in contents
                else request.end_image
            ),
            video=self._examine_video(contents["video"], "video") if "video" in contents else request.video,
        )
        return request, contents

    def _read(self, source: Source, param: str, only: str | None) -> bytes:
        """Returns the content of an input."""
        if isinstance(source, bytes):
            return source
        if isinstance(source, InputUrl):
            return self._download(source.url, param)
        return self._read_video_of(source, param, only) if is_job(source) else self._read_upload(source, param, only)

    def _download(self, url: str, param: str) -> bytes:
        upload = f"Upload the {param} with POST /api/v1/uploads, and send the id from the response."
        if self._remote_files is None:
            raise InvalidRequest(
                f"{param} can't be read: it is the address of another server, from which this service downloads "
                "nothing: the setting fetch_urls is off.",
                code="invalid_input_reference",
                param=param,
                suggestions=[upload, "Or send a base64 data URL such as data:image/png;base64,iVBORw0…"],
            )
        try:
            return self._remote_files.read(url)
        except Unreadable as exc:
            raise InvalidRequest(
                f"{param} {exc}", code="input_not_downloaded", param=param, suggestions=[upload]
            ) from None

    def _read_video_of(self, job_id: str, param: str, only: str | None) -> bytes:
        try:
            job = self._store.reader.completed(job_id, owner=only)
            assert job.output is not None
            return self._storage.path(f"{job.output['folder']}/{job.output['video']}").read_bytes()
        except Wan22Error as exc:
            exc.param = f"{param}_path"
            raise

    def _read_upload(self, upload_id: str, param: str, only: str | None) -> bytes:
        try:
            key = upload_key(upload_id)
            if only is not None and not self._store.input_owners.has(only, key):
                raise NotFound
            return self._storage.path(key).read_bytes()
        except (NotFound, FileNotFoundError):
            raise InvalidRequest(
                f"No upload has the id {upload_id[:80]!r}. Unused uploads are removed, after a day by default.",
                code="unknown_upload",
                param=f"{param}_path",
                suggestions=[f"Upload the {param} with POST /api/v1/uploads, and send the id from the response."],
            ) from None

    def examine(self, data: bytes, param: str) -> InputImage | InputVideo:
        """Checks an image or a video, and describes it with its key in the storage.

        Raises:
            InvalidRequest: the data is neither, or the service does not support it.
        """
        if is_video(data):
            return self._examine_video(data, param)
        try:
            return self._examine_image(data, param)
        except InvalidRequest as exc:
            exc.suggestions.append("Or send a video, as an mp4.")
            raise

    def _examine_image(self, data: bytes, param: str) -> InputImage:
        width, height = check_image(data, param=param)
        return InputImage(key=input_key(data), width=width, height=height)

    def _examine_video(self, data: bytes, param: str) -> InputVideo:
        return InputVideo(key=input_key(data), **asdict(check_video(data, param=param)))

    def read_stored(self, params: GenerationParams) -> list[bytes]:
        """Returns the contents of the stored inputs of an earlier job.

        Raises:
            InvalidRequest: a file no longer exists.
        """
        contents = []
        for name in INPUTS:
            if key := getattr(params, name):
                try:
                    contents.append(self._storage.path(key).read_bytes())
                except (NotFound, FileNotFoundError) as exc:
                    raise InvalidRequest(
                        f"The file of the job's {name} was removed, because its retention has ended: "
                        f"{key.rpartition('/')[2]}.",
                        code="input_missing",
                        param=f"{name}_path",
                        suggestions=[f"Submit a new job with the same parameters, and send the {name} again."],
                    ) from exc
        return contents


def is_upload(source: Source | None) -> TypeGuard[str]:
    """Returns whether a source is the id of an upload, whose file is stored and charged already."""
    return isinstance(source, str) and not is_job(source)


def is_job(source: Source | None) -> TypeGuard[str]:
    """Returns whether a source is the id of a job."""
    return isinstance(source, str) and source.startswith(JOB_ID_PREFIX)
