"""What pending jobs show of a download that another dispatcher has recorded."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from deployments.dispatch.model_downloads import ModelDownloads
from deployments.downloader import Downloader
from deployments.jobs.store import JobStore
from serve_app.settings import parse_settings
from tests.jobs import make_job, make_params
from wan22_bridge.types import Progress, Stage


def test_a_download_that_no_job_needs_any_more_is_ended_after_a_restart(store: JobStore, tmp_path: Path) -> None:
    models = [{"id": "from-hub", "like": "tiny-ti2v", "repository": "a/b"}]
    served = parse_settings({"models": models}).served_models()
    downloader = Downloader(tmp_path, served, cast=False)
    handle: Any = SimpleNamespace(availability=SimpleNamespace(remote=downloader.availability))
    store.downloads.record("from-hub", Progress(stage=Stage.DOWNLOADING_MODEL, percent=20.0))

    asyncio.run(ModelDownloads(store, handle, served).update([]))

    assert store.writer.submit(make_job(params=make_params(model="from-hub"))).stage == "queued"
    assert store.reader.page()[0].stage == "queued"
