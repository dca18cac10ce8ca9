"""`wan22 models` downloads, verifies, converts and removes the files of models."""

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml
from typer.testing import CliRunner, Result

from deployments.jobs.store import JobStore
from serve_app.cli.main import app
from tests.databases import write_database
from tests.hub import COMMIT, REPOSITORY, Fault, HubServer, serving_hub
from tests.service import ROOT, WAN22, wait_until
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.fetching.manifest import Manifest, ModelFile, write_manifest

pytestmark = pytest.mark.slow

BIG = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    folder = tmp_path_factory.mktemp("hub") / "model"
    shutil.copytree(ensure_tiny_model(tmp_path_factory.mktemp("models"), "ti2v"), folder)
    with serving_hub(folder) as server:
        yield server


@pytest.fixture
def config(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    content = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    models = ["tiny-t2v", {"id": "from-hub", "like": "tiny-ti2v", "repository": REPOSITORY}]
    content["applications"][0]["args"] |= {"data_dir": str(tmp_path / "data"), "models": models}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(config: Path, *arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["models", *arguments, "--config", str(config)], input=answer)


def listed(config: Path) -> dict[str, dict[str, object]]:
    return {row["id"]: row for row in json.loads(run(config, "list", "--json").stdout)}


def test_a_model_is_downloaded_verified_repaired_and_removed(hub: HubServer, config: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "models" / "from-hub"
    assert not listed(config)["from-hub"]["available"]
    assert listed(config)["from-hub"]["served"]
    assert not listed(config)["wan2.2-ti2v-5b"]["served"]

    done = run(config, "pull", "from-hub")
    assert done.exit_code == 0, done.output
    assert str(folder) in done.stdout.replace("\n", "")
    assert listed(config)["from-hub"]["available"]
    assert run(config, "verify", "from-hub").exit_code == 0

    damaged = bytearray((folder / BIG).read_bytes())
    damaged[-1] ^= 1
    (folder / BIG).write_bytes(damaged)
    found = run(config, "verify", "from-hub")
    assert found.exit_code == 1
    assert f"{BIG}: wrong content" in found.stdout
    assert not listed(config)["from-hub"]["available"], "a damaged model is not used"
    hub.asked.clear()
    assert run(config, "verify", "--repair", "from-hub").exit_code == 0
    assert hub.asked == {BIG: 1}
    assert listed(config)["from-hub"]["available"]
    assert run(config, "verify", "from-hub").exit_code == 0

    assert run(config, "remove", "from-hub", answer="n\n").exit_code == 1
    assert folder.exists()
    assert run(config, "remove", "from-hub", answer="y\n").exit_code == 0
    assert not folder.exists()
    assert run(config, "remove", "from-hub", "--yes").exit_code == 1


def test_a_lock_file_pins_the_models_that_are_served(hub: HubServer, config: Path, tmp_path: Path) -> None:
    path = tmp_path / "data" / "models" / "models.lock"
    assert not listed(config)["from-hub"]["locked"]
    locked = run(config, "lock")
    assert locked.exit_code == 0, locked.output
    assert f"of {REPOSITORY} at {COMMIT}" in locked.stdout
    assert list(json.loads(path.read_text())["models"]) == ["from-hub"]
    assert listed(config)["from-hub"]["locked"]

    assert run(config, "pull", "from-hub").exit_code == 0
    pinned = path.read_text()
    path.write_text(pinned.replace(COMMIT, "2" * 40))
    assert not listed(config)["from-hub"]["available"]
    refused = run(config, "verify", "from-hub")
    assert refused.exit_code == 1
    assert "the config or the lock file has other files" in refused.stderr

    path.write_text("{}")
    broken = run(config, "pull", "from-hub")
    assert broken.exit_code == 2
    assert "models_lock" in broken.stderr
    assert run(config, "lock").exit_code == 0
    assert path.read_text() == pinned


def test_fp32_weights_are_cast_once(config: Path, tmp_path: Path) -> None:
    text = tmp_path / "data" / "models" / "from-hub" / "text_encoder" / "model.safetensors"
    assert run(config, "convert", "from-hub").exit_code == 1, "the model is not downloaded yet"
    assert run(config, "pull", "--bf16", "from-hub").exit_code == 0
    size = text.stat().st_size
    done = run(config, "convert", "from-hub")
    assert done.exit_code == 0, done.output
    assert text.stat().st_size == size
    assert run(config, "verify", "from-hub").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["pull", "nothing"], 2, "There is no model 'nothing'; there are"),
        (["verify", "tiny-t2v"], 2, "tiny-t2v is built in"),
        (["verify", "from-hub"], 1, "wan22 models pull from-hub"),
    ],
)
def test_a_command_that_cannot_work_says_why(arguments: list[str], code: int, said: str, config: Path) -> None:
    done = run(config, *arguments)
    assert done.exit_code == code
    assert said in done.stderr.replace("\n", " ")


def test_a_model_that_the_hub_lacks_is_reported(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(config, "pull", "wan2.2-ti2v-5b")
    assert done.exit_code == 1
    assert "has no model Wan-AI/Wan2.2-TI2V-5B-Diffusers" in done.stderr.replace("\n", " ")


def test_ctrl_c_stops_a_download_at_once_and_the_next_pull_resumes_it(hub: HubServer, config: Path) -> None:
    hub.faults[BIG].append(Fault(drip_seconds=0.003))
    command = [WAN22, "models", "pull", "from-hub", "--config", str(config)]
    pulling = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    parts = config.parent / "data" / "models" / "from-hub" / ".parts"
    wait_until(lambda: any(path.stat().st_size >= 1 << 20 for path in parts.glob("transformer--diff*")))
    pulling.send_signal(signal.SIGINT)
    _, said = pulling.communicate(timeout=8)  # the file alone takes twice as long
    assert pulling.returncode == 1
    assert "Stopped. The next pull resumes from the downloaded part." in said
    assert run(config, "pull", "from-hub").exit_code == 0
    assert any(name == BIG and start >= 1 << 20 for name, start in hub.ranges)


def test_ctrl_c_stops_a_verification(config: Path) -> None:
    """The model has one file of 100 GB, without content on the disk, whose hash takes minutes."""
    folder = config.parent / "data" / "models" / "from-hub"
    folder.mkdir(parents=True)
    size = 100 * 10**9
    with (folder / "large").open("wb") as file:
        file.truncate(size)
    entry = ModelFile(path="large", size=size, sha256="0" * 64, blob_id=None)
    write_manifest(folder, Manifest(repository="a/b", commit="c", files=(entry,)))
    command = [WAN22, "models", "verify", "from-hub", "--config", str(config)]
    verifying = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    reads = psutil.Process(verifying.pid).io_counters
    wait_until(lambda: reads().read_chars > 500e6)
    verifying.send_signal(signal.SIGINT)
    _, said = verifying.communicate(timeout=30)
    assert verifying.returncode == 1
    assert said.rstrip().endswith("Stopped.")


def test_what_a_command_does_to_models_is_in_the_audit_log_of_a_service(
    hub: HubServer, config: Path, tmp_path: Path
) -> None:
    assert run(config, "pull", "from-hub").exit_code == 0
    assert not (tmp_path / "data" / "jobs.db").exists()
    write_database(tmp_path / "data")
    assert run(config, "pull", "from-hub").exit_code == 0
    assert run(config, "lock").exit_code == 0
    assert run(config, "remove", "--yes", "from-hub").exit_code == 0
    store = JobStore(f"sqlite:///{tmp_path}/data/jobs.db")
    entries = store.audit.page()
    store.database.close()
    assert [(entry.action, entry.target) for entry in reversed(entries)] == [
        ("pull_model", "from-hub"),
        ("lock_models", "from-hub"),
        ("remove_model", "from-hub"),
    ]
