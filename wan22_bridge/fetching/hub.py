"""Requests to the Hugging Face Hub or a mirror: the list of a model's files, and the download of one file."""

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
SUFFIXES = (".safetensors", ".json", ".txt", ".model")
"""Suffixes of the files to fetch. Pickles are excluded, because loading a pickle runs the code in it."""
CHUNK_BYTES = 1 << 20
"""Chunk size of a download.

A broken connection loses at most one chunk, and progress is reported after each. The library's default is 10 MB.
"""
STALL_SECONDS = 60.0
"""Length of the period after which the speed of a connection is checked."""
STALL_BYTES = 64 * 1024
"""Minimum bytes per period. A slower connection is closed and opened again."""


_HUB = "https://huggingface.co"
constants.DOWNLOAD_CHUNK_SIZE = CHUNK_BYTES


class Stalled(ConnectionError):
    """The connection received almost nothing for a while."""


class Hub:
    """Client of the hub that the environment selects.

    `HF_ENDPOINT` selects a mirror. `HF_TOKEN` gives access to private and gated models. It is sent to the Hugging Face
    Hub, and to a mirror only if `WAN22_HF_TOKEN_ENDPOINT` names the mirror too, because whoever has the token can act
    as its user.
    """

    def __init__(self) -> None:
        self.endpoint = os.environ.get("HF_ENDPOINT", _HUB).rstrip("/")
        self._sends_token = self.endpoint in (_HUB, os.environ.get("WAN22_HF_TOKEN_ENDPOINT", "").rstrip("/"))
        # In the library, None stands for the token of the environment or of `hf auth login`.
        self._token = None if self._sends_token else False

    def describe(self, repository: str, revision: str | None) -> Manifest:
        """Lists the files of a model at a revision, which is resolved to a commit.

        Raises:
            DownloadFailed: The model does not exist, is not accessible, or has no safetensors, or a file has no hash.
            HfHubHTTPError: The hub answered with another error.
        """
        try:
            api = HfApi(endpoint=self.endpoint, token=self._token)
            info = api.model_info(repository, revision=revision, files_metadata=True)
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as exc:
            raise self._inaccessible(repository, revision, exc) from exc
        files = []
        for sibling in info.siblings or ():
            if _is_wanted(sibling.rfilename):
                sha256 = sibling.lfs.sha256 if sibling.lfs is not None else None
                if sibling.size is None or not (sha256 or sibling.blob_id):
                    raise self._without_hash(repository, sibling.rfilename)
                file = ModelFile(path=sibling.rfilename, size=sibling.size, sha256=sha256, blob_id=sibling.blob_id)
                files.append(file)
        if info.sha is None or not any(file.path == "model_index.json" for file in files):
            raise DownloadFailed(
                f"{repository} is not a model in diffusers' format: it has no model_index.json.",
                code="not_a_model",
                suggestions=["Use a repository whose name ends in -Diffusers."],
            )
        if not any(file.path.startswith("transformer/") and file.path.endswith(".safetensors") for file in files):
            raise DownloadFailed(
                f"{repository} has no weights in safetensors format, which is the only supported one.",
                code="not_a_model",
            )
        return Manifest(repository=repository, commit=info.sha, files=tuple(files))

    def _without_hash(self, repository: str, path: str) -> DownloadFailed:
        return DownloadFailed(
            f"{self._name} publishes no hash or no size of {path[:200]} in {repository}: it can't be verified.",
            code="hash_missing",
            suggestions=["Set HF_ENDPOINT to a hub that publishes hashes, or copy the model and set its path."],
        )

    @property
    def _name(self) -> str:
        """Host and port of the endpoint, without a password that the URL may hold."""
        return urlsplit(self.endpoint).netloc.rpartition("@")[2] or "The hub"

    def _inaccessible(self, repository: str, revision: str | None, error: HfHubHTTPError) -> DownloadFailed:
        withheld = [f"HF_TOKEN is not sent to {self._name} unless WAN22_HF_TOKEN_ENDPOINT is the same as HF_ENDPOINT."]
        withheld = [] if self._sends_token else withheld
        if isinstance(error, GatedRepoError):
            return DownloadFailed(
                f"{repository} is gated: its terms have to be accepted first.",
                code="hub_refused",
                suggestions=["Accept the terms on the model's page, and set HF_TOKEN to your token.", *withheld],
            )
        at = f" at {revision}" if revision else ""
        return DownloadFailed(
            f"{self._name} has no model {repository}{at}, or shows it only with a token.",
            code="hub_refused",
            suggestions=[
                "Check the name. Set HF_TOKEN for a private model, or HF_ENDPOINT for another hub.",
                *withheld,
            ],
        )

    def fetch(self, manifest: Manifest, file: ModelFile, part: Path, report: Callable[[int], None]) -> None:
        """Fetches the missing rest of a file.

        Args:
            manifest: Manifest of the model.
            file: File to fetch.
            part: Incomplete download, to which the received bytes are appended; may be missing.
            report: Called with each count of received bytes; a negative count takes back bytes that have to be
                fetched again. An exception from it ends the fetch.

        Raises:
            HfHubHTTPError: The hub answered with an error.
            OSError: The connection broke, or the disk is full.
        """
        url = hf_hub_url(manifest.repository, file.path, revision=manifest.commit, endpoint=self.endpoint)
        metadata = get_hf_file_metadata(url, endpoint=self.endpoint, token=self._token)
        headers = build_hf_headers(token=self._token if _origin(metadata.location) == _origin(url) else False)
        with part.open("ab") as stream:
            # A progress bar is the only way to get progress out of `http_get`.
            bar: Any = type("Bar", (_Bar,), {"report": staticmethod(report)})
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


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _is_wanted(name: str) -> bool:
    """Returns whether to fetch a file: model_index.json, and the weights and configs of the components."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix not in SUFFIXES:
        return False
    return name == "model_index.json" or (len(path.parts) == 2 and path.parts[0] in COMPONENTS)


class _Bar:
    """Stand-in for tqdm in `http_get`: reports received bytes, and detects stalled connections."""

    report: Callable[[int], None]

    def __init__(self, *_: Any, **__: Any) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def update(self, count: int) -> None:
        """Counts received bytes."""
        self._bytes += count
        now = time.monotonic()
        if now - self._since > STALL_SECONDS:
            if self._bytes < STALL_BYTES:
                raise Stalled(f"only {self._bytes} bytes were received in {now - self._since:.0f} s")
            self._since, self._bytes = now, 0
        self.report(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass
