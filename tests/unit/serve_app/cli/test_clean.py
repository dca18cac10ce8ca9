"""`wan22 clean` on a database and a folder without a service."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from deployments.jobs.store import JobStore
from deployments.storage.folder import FolderStorage
from serve_app.cli.main import app
from tests.databases import write_database
from tests.jobs import make_job
from tests.service import ROOT

_DAYS_2 = 2 * 24 * 3600


def _clean(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["clean", "--config", str(config), *arguments])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The config of a service that keeps videos for a day, and has an old video, an orphan and an unused upload."""
    data = tmp_path / "data"
    write_database(data)
    store = JobStore(f"sqlite:///{data}/jobs.db", clock=lambda: time.time() - _DAYS_2)
    storage = FolderStorage(data)
    job = store.writer.submit(make_job())
    store.runner.claim(job.id, lease_seconds=60)
    output = {"folder": f"outputs/{job.id}/1", "file_size_bytes": 2_000_000}
    store.runner.complete(job.id, 1, output=output, result={})
    unused = storage.path(key := storage.put_input(bytes(1_000_000)))
    store.input_owners.record("", [key])
    store.database.close()
    for job_id, size in ((job.id, 2_000_000), ("video_unknown", 3_000_000)):
        folder = storage.work.output_folder(job_id, 1)
        folder.mkdir(parents=True)
        (folder / "video.mp4").write_bytes(bytes(size))
    os.utime(unused, (time.time() - _DAYS_2,) * 2)
    content = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    content["applications"][0]["args"] |= {"data_dir": str(data), "retention": {"video_days": 1}}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def _files(config: Path) -> set[str]:
    return {path.parts[-3] for path in config.parent.glob("data/outputs/*/*/video.mp4")} | {
        path.parts[-2] for path in config.parent.glob("data/inputs/*")
    }


def test_a_dry_run_prints_counts_and_sizes_and_removes_nothing(config: Path) -> None:
    before = _files(config)
    result = _clean(config, "--dry-run")
    assert result.exit_code == 0, result.stderr
    rows = [line.split(maxsplit=3) for line in result.stdout.splitlines()]
    assert ["2.0", "MB", "1", "jobs with their videos"] in rows
    assert ["3.0", "MB", "1", "orphaned outputs"] in rows
    assert ["1.0", "MB", "1", "inputs"] in rows
    assert result.stdout.endswith("3.0 MB would be freed.\n")
    assert _files(config) == before
    assert len(before) == 3


def test_orphans_are_removed_only_on_request(config: Path) -> None:
    result = _clean(config)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("3.0 MB are freed.\n")
    assert "--orphans removes them" in result.stderr
    assert _files(config) == {"video_unknown"}
    again = json.loads(_clean(config, "--orphans", "--json").stdout)
    assert {item["kind"]: item["count"] for item in again if item["count"]} == {"orphaned outputs": 1}
    assert _files(config) == set()


def test_a_mistyped_data_folder_is_reported_and_not_created(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["clean", "--data-dir", f"{tmp_path}/dtaa"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"There is no database {tmp_path}/dtaa/jobs.db." in result.stderr
    assert list(tmp_path.iterdir()) == []
