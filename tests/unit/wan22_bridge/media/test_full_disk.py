"""A full disk gives a clear error and leaves no incomplete files.

Most tests limit the size of files instead of filling a disk, because that needs no root.
"""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.full_disk import small_disk
from tests.jobs import make_params
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import DiskFull
from wan22_bridge.types import Checkpoint, Preview

pytestmark = pytest.mark.slow

_PROGRAM = """
import json, resource, signal, sys
from dataclasses import replace
from pathlib import Path
from tests.jobs import make_params
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.errors import Wan22Error
from wan22_bridge.models.loaded import LoadedModel
from wan22_bridge.plans import Offload, Residence
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.types import Checkpoint

what, limit, models, work = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
spec = load_catalogue()["tiny-t2v"]
bridge = ModelIntegrationBridge()
if what == "generate":
    model = bridge.load(spec, models)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if what == "generate":
        checkpoint = Checkpoint(path=work / "snapshot.safetensors", interval_seconds=0)
        params = make_params(num_frames=33, width=128, height=128)
        for _ in bridge.generate(model, params, work / "out", checkpoint=checkpoint):
            pass
    else:
        plan = replace(base_plan("cpu"), experts=Residence.STREAMED, offload=Offload.DISK)
        LoadedModel(spec, models, plan, scratch=work / "scratch")
except Wan22Error as exc:
    print(json.dumps(exc.to_dict()))
"""


def _run(what: str, limit: int, models_dir: Path, work: Path) -> dict[str, Any]:
    """Runs the program in a process with a limit on file sizes, and returns the error that it reports."""
    folder = ensure_tiny_model(models_dir, "t2v")
    arguments = [what, str(limit), str(folder), str(work)]
    done = subprocess.run([sys.executable, "-c", _PROGRAM, *arguments], capture_output=True, text=True, check=True)
    error: dict[str, Any] = json.loads(done.stdout)
    return error


@pytest.mark.parametrize("limit", [0, 8_000])
def test_a_video_that_cannot_be_written_reports_the_disk_and_leaves_no_files(
    limit: int, models_dir: Path, tmp_path: Path
) -> None:
    error = _run("generate", limit, models_dir, tmp_path)

    assert (error["type"], error["code"], error["can_retry"]) == ("storage", "storage_failed", True)
    assert str(tmp_path) not in error["message"]
    assert "Free space" in error["suggestions"][0]
    assert list(tmp_path.iterdir()) == []


def test_weights_that_cannot_be_offloaded_to_disk_are_not_reported_as_corrupted(
    models_dir: Path, tmp_path: Path
) -> None:
    error = _run("load", 50_000, models_dir, tmp_path)

    assert (error["type"], error["code"]) == ("storage", "storage_failed")
    assert "disk" in error["message"]
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(("size_kb", "completes"), [(4, False), (12, False), (160, True)])
def test_a_job_on_a_full_disk_ends_without_a_rest_or_completes_without_a_snapshot(
    size_kb: int, completes: bool, models_dir: Path, tmp_path: Path
) -> None:
    bridge = ModelIntegrationBridge()
    model = bridge.load(load_catalogue()["tiny-t2v"], ensure_tiny_model(models_dir, "t2v"))
    params = make_params(num_frames=33, width=128, height=128)
    with small_disk(tmp_path / "disk", size_kb) as disk:
        checkpoint = Checkpoint(path=disk / "job" / "snapshot.safetensors", interval_seconds=0)
        preview = Preview(path=disk / "job" / "preview.webp", interval_seconds=0.001, shown=lambda: None)
        with pytest.raises(DiskFull) if not completes else nullcontext():
            for _ in bridge.generate(model, params, disk / "job" / "1", checkpoint=checkpoint, preview=preview):
                pass
        left = {path.name for path in (disk / "job").iterdir()} - {"preview.webp"}
        assert left == ({"1"} if completes else set())
