"""The hub: what a model consists of there, and one file of it."""

import os
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers

from wan22_bridge.errors import DownloadFailed
from wan22_bridge.fetching.manifest import Manifest, ModelFile

COMPONENTS = ("transformer", "transformer_2", "text_encoder", "tokenizer", "vae", "scheduler")
KINDS = (".safetensors", ".json", ".txt", ".model")
"""Of files that are fetched. No pickles: to load one is to run what it holds."""
CHUNK_BYTES = 1 << 20
"""What a broken connection costs, and how often a fetch can be told how far it is, and stopped. The library's own
chunks have ten megabytes, and what has come of one is lost."""
STALL_SECONDS = 60.0
STALL_BYTES = 64 * 1024
"""A connection that gives less than that in so long is given up, and asked for anew."""


constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES


class Stalled(ConnectionError):
    """The connection gave next to nothing for a while."""


class Hub:
    """The hub that the environment names: `HF_ENDPOINT` for a mirror, `HF_TOKEN` for what needs one."""

    def __init__(self) -> None:
        self.endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")

    def describe(self, repository: str, revision: str | None) -> Manifest:
        """What a model consists of at a revision: a commit from here on.

        Raises:
            DownloadFailed: there is no such model, it may not be read, or it has no safetensors.
            HfHubHTTPError: the hub answered with something else.
        """
        try:
            info = HfApi(endpoint=self.endpoint).model_info(repository, revision=revision, files_metadata=True)
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as exc:
            raise self._not_given(repository, revision, exc) from exc
        files = []
        for sibling in info.siblings or ():
            if _is_wanted(sibling.rfilename) and sibling.size is not None:
                sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
                file = ModelFile(path=sibling.rfilename, size=sibling.size, sha256=sha256, blob_id=sibling.blob_id)
                files.append(file)
        if info.sha is None or not any(file.path == "model_index.json" for file in files):
            raise DownloadFailed(
                f"{repository} is not a model in diffusers' format: it has no model_index.json.",
                code="not_a_model",
                suggestions=["Name a repository whose name ends in -Diffusers."],
            )
        if not any(file.path.startswith("transformer/") and file.path.endswith(".safetensors") for file in files):
            raise DownloadFailed(
                f"{repository} has no weights as safetensors, and nothing else is fetched.", code="not_a_model"
            )
        return Manifest(repository=repository, commit=info.sha, files=tuple(files))

    def _not_given(self, repository: str, revision: str | None, error: HfHubHTTPError) -> DownloadFailed:
        if isinstance(error, GatedRepoError):
            return DownloadFailed(
                f"{repository} is given only to those who have agreed to its terms.",
                code="hub_refused",
                suggestions=["Agree to them on its page, and set HF_TOKEN to a token of yours."],
            )
        at = f" at {revision}" if revision else ""
        return DownloadFailed(
            f"{self.endpoint} has no model {repository}{at}, or does not show it without a token.",
            code="hub_refused",
            suggestions=["Check its name; set HF_TOKEN where it is private; HF_ENDPOINT names another hub."],
        )

    def fetch(self, manifest: Manifest, file: ModelFile, part: Path, tell: Callable[[int], None]) -> None:
        """Fetches what is missing of a file.

        Args:
            manifest: of its model.
            file: which.
            part: what was fetched of it so far; may be missing.
            tell: is told of bytes that came, or, negative, that have to come anew. What it raises ends the fetch.

        Raises:
            HfHubHTTPError: the hub answered with an error.
            OSError: the connection broke, or the disk is full.
        """
        url = hf_hub_url(manifest.repository, file.path, revision=manifest.commit, endpoint=self.endpoint)
        metadata = get_hf_file_metadata(url, endpoint=self.endpoint)
        headers = build_hf_headers()
        if urlsplit(metadata.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)
        with part.open("ab") as stream:
            # Its own bar is the only way in which it tells how far it is.
            bar: Any = type("Bar", (_Bar,), {"tell": staticmethod(tell)})
            http_get(
                metadata.location,
                stream,
                resume_size=stream.tell(),
                headers=headers,
                expected_size=file.size,
                tqdm_class=bar,
            )
            stream.flush()
            os.fsync(stream.fileno())


def _is_wanted(name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix not in KINDS:
        return False
    return name == "model_index.json" or (len(path.parts) == 2 and path.parts[0] in COMPONENTS)


class _Bar:
    """What `http_get` takes for a progress bar."""

    tell: Callable[[int], None]

    def __init__(self, *_: Any, **__: Any) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def update(self, count: int) -> None:
        """Bytes came."""
        self._bytes += count
        now = time.monotonic()
        if now - self._since > STALL_SECONDS:
            if self._bytes < STALL_BYTES:
                raise Stalled(f"only {self._bytes} bytes came in {now - self._since:.0f} s")
            self._since, self._bytes = now, 0
        self.tell(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
