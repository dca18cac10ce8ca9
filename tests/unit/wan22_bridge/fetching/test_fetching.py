"""Downloads of a model over real HTTP, including the failures of networks, hubs and disks."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from transformers import UMT5EncoderModel

from tests.hub import COMMIT, REPOSITORY, Fault, HubServer, serving_hub
from tests.service import wait_until
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.errors import DownloadFailed
from wan22_bridge.fetching import FetchProgress, FetchStopped, FileState, check_files, fetch_model, read_manifest
from wan22_bridge.fetching import hub as hub_module
from wan22_bridge.fetching import retrying as retrying_module

pytestmark = pytest.mark.slow

BIG = "transformer/diffusion_pytorch_model.safetensors"
SMALL = "model_index.json"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny TI2V model with one file per component, beside files that must not be fetched."""
    folder = tmp_path_factory.mktemp("hub") / "model"
    shutil.copytree(ensure_tiny_model(tmp_path_factory.mktemp("models"), "ti2v"), folder)
    transformer = WanTransformer3DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    shutil.rmtree(folder / "transformer")
    transformer.save_pretrained(folder / "transformer")
    for name in ("README.md", "assets/video.mp4", "transformer/pytorch_model.bin", "other/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not wanted")
    return folder


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(retrying_module, "MAX_WAIT_SECONDS", 0.2)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1024)
    with serving_hub(model) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def fetch(
    folder: Path, progress: FetchProgress | None = None, *, cast: bool = False, check_content: bool = False
) -> None:
    fetch_model(REPOSITORY, None, folder, progress or FetchProgress(), cast=cast, check_content=check_content)


def content(folder: Path) -> dict[str, bytes]:
    hidden = {".lock", "wan22_manifest.json"}
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name not in hidden)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def wanted(model: Path) -> dict[str, bytes]:
    return {
        name: found
        for name, found in content(model).items()
        if not name.startswith(("README", "assets", "other", "mag_ratios", "preview")) and not name.endswith(".bin")
    }


def test_exactly_the_model_files_are_fetched_at_one_commit(hub: HubServer, model: Path, tmp_path: Path) -> None:
    progress = FetchProgress()
    fetch(tmp_path, progress)
    assert content(tmp_path) == wanted(model)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.commit == COMMIT
    assert progress.done_bytes == progress.total_bytes == sum(map(len, wanted(model).values()))


def test_a_complete_model_is_not_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    fetch(tmp_path)
    hub.asked.clear()
    hub.describing.append(Fault(status=500))
    fetch(tmp_path)
    assert not hub.asked
    assert hub.describing, "a complete model needs no request to the hub"


def test_a_cut_connection_resumes_from_the_received_bytes(hub: HubServer, model: Path, tmp_path: Path) -> None:
    hub.faults[BIG].extend([Fault(cut_after=102_400), Fault(cut_after=51_200)])
    progress = FetchProgress()
    fetch(tmp_path, progress)
    assert content(tmp_path) == wanted(model)
    assert [start for name, start in hub.ranges if name == BIG] == [102_400, 153_600]
    assert progress.done_bytes == progress.total_bytes


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_retried(status: int, hub: HubServer, model: Path, tmp_path: Path) -> None:
    hub.faults[BIG].extend([Fault(status=status)] * 3)
    hub.describing.append(Fault(status=status))
    fetch(tmp_path)
    assert content(tmp_path) == wanted(model)
    assert hub.asked[BIG] == 4


def test_a_hub_that_stays_busy_fails_the_fetch_and_keeps_the_received_bytes(
    hub: HubServer, model: Path, tmp_path: Path
) -> None:
    hub.faults[BIG].extend([Fault(cut_after=102_400)] + [Fault(status=503)] * 100)
    with pytest.raises(DownloadFailed, match=BIG) as raised:
        fetch(tmp_path)
    assert raised.value.can_retry
    hub.faults.clear()
    fetch(tmp_path)
    assert content(tmp_path) == wanted(model)
    assert (BIG, 102_400) in hub.ranges


def test_a_file_with_a_wrong_checksum_is_fetched_once_more_and_then_rejected(
    hub: HubServer, model: Path, tmp_path: Path
) -> None:
    hub.faults[BIG].append(Fault(wrong_byte=True))
    hub.faults[SMALL].append(Fault(wrong_byte=True))
    progress = FetchProgress()
    fetch(tmp_path, progress)
    assert content(tmp_path) == wanted(model)
    assert progress.done_bytes == progress.total_bytes

    hub.faults["vae/config.json"].extend([Fault(wrong_byte=True)] * 2)
    (tmp_path / "vae/config.json").unlink()
    with pytest.raises(DownloadFailed, match="had a wrong checksum twice") as raised:
        fetch(tmp_path)
    assert raised.value.code == "checksum_mismatch"
    assert not (tmp_path / "vae/config.json").exists()


def test_a_stalled_connection_is_replaced_by_a_new_one(
    hub: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "STALL_SECONDS", 0.5)
    hub.faults[BIG].append(Fault(drip_seconds=0.1))
    fetch(tmp_path)
    assert content(tmp_path) == wanted(model)
    assert hub.asked[BIG] == 2


def test_a_fetch_stopped_within_a_file_resumes_there(hub: HubServer, model: Path, tmp_path: Path) -> None:
    hub.faults[BIG].append(Fault(drip_seconds=0.05))
    progress, raised = FetchProgress(), list[BaseException]()

    def run() -> None:
        try:
            fetch(tmp_path, progress)
        except FetchStopped as exc:
            raised.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    part = tmp_path / ".parts"
    wait_until(lambda: part.exists() and any(path.stat().st_size > 4096 for path in part.glob("transformer--diff*")))
    assert progress.eta_seconds is not None
    progress.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert len(raised) == 1
    fetch(tmp_path)
    assert content(tmp_path) == wanted(model)
    assert any(name == BIG and start >= 4096 for name, start in hub.ranges)


def test_too_little_disk_space_fails_before_any_file_is_fetched(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(DownloadFailed, match=r"needs .* GB more\. .* has 0\.0 GB free") as raised:
        fetch(tmp_path)
    assert raised.value.code == "disk_full"
    assert not hub.asked


def test_only_damaged_and_missing_files_are_fetched_again(hub: HubServer, model: Path, tmp_path: Path) -> None:
    fetch(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    (tmp_path / SMALL).unlink()
    damaged = bytearray((tmp_path / BIG).read_bytes())
    damaged[-1] ^= 1
    (tmp_path / BIG).write_bytes(damaged)
    (tmp_path / "vae/config.json").write_text("{}")
    states = check_files(tmp_path, manifest, content=True)
    assert {name: state for name, state in states.items() if state is not FileState.GOOD} == {
        SMALL: FileState.MISSING,
        BIG: FileState.WRONG_CONTENT,
        "vae/config.json": FileState.WRONG_SIZE,
    }
    hub.asked.clear()
    fetch(tmp_path, check_content=True)
    assert content(tmp_path) == wanted(model)
    assert set(hub.asked) == {SMALL, BIG, "vae/config.json"}


def test_an_unavailable_model_fails_with_the_reason(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="has no model wan/other") as raised:
        fetch_model("wan/other", None, tmp_path, FetchProgress())
    assert raised.value.code == "hub_refused"
    hub.describing.append(Fault(status=404))
    with pytest.raises(DownloadFailed, match="the hub answered 404") as raised:
        fetch(tmp_path)
    assert raised.value.code == "hub_refused"
    (hub.folder / SMALL).rename(hub.folder / "index.txt")
    try:
        with pytest.raises(DownloadFailed, match=r"no model_index\.json"):
            fetch(tmp_path)
    finally:
        (hub.folder / "index.txt").rename(hub.folder / SMALL)


def test_concurrent_fetches_of_a_model_fetch_each_file_once(hub: HubServer, model: Path, tmp_path: Path) -> None:
    threads = [threading.Thread(target=fetch, args=[tmp_path]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(tmp_path) == wanted(model)
    assert set(hub.asked.values()) == {1}


def test_a_fetch_killed_within_a_file_resumes_there(hub: HubServer, model: Path, tmp_path: Path) -> None:
    hub.faults[BIG].append(Fault(drip_seconds=0.02))
    code = (
        "import huggingface_hub.constants as constants; constants.DOWNLOAD_CHUNK_SIZE = 1024\n"
        "from pathlib import Path; from wan22_bridge.fetching import FetchProgress, fetch_model\n"
        f"fetch_model({REPOSITORY!r}, None, Path({str(tmp_path)!r}), FetchProgress())"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"HF_ENDPOINT": hub.url})
    parts = tmp_path / ".parts"
    wait_until(lambda: any(path.stat().st_size > 16_384 for path in parts.glob("transformer--diff*")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    fetch(tmp_path)
    assert content(tmp_path) == wanted(model)
    assert any(name == BIG and start >= 16_384 for name, start in hub.ranges)


@pytest.mark.parametrize("when", ["during the fetch", "afterwards"])
def test_cast_weights_load_bit_identical_to_the_original_ones(
    when: str, hub: HubServer, model: Path, tmp_path: Path
) -> None:
    if when == "afterwards":
        fetch(tmp_path)
    fetch(tmp_path, cast=True)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert set(check_files(tmp_path, manifest, content=True).values()) == {FileState.GOOD}
    assert (tmp_path / BIG).stat().st_size < 0.6 * (model / BIG).stat().st_size
    assert content(tmp_path)["vae/config.json"] == content(model)["vae/config.json"]
    for kind, name in ((WanTransformer3DModel, "transformer"), (UMT5EncoderModel, "text_encoder")):
        original, cast = (
            kind.from_pretrained(folder / name, dtype=torch.bfloat16).state_dict() for folder in (model, tmp_path)
        )
        assert all(
            torch.equal(original[key], cast[key]) and original[key].dtype == cast[key].dtype for key in original
        ), name
    hub.asked.clear()
    fetch(tmp_path, cast=True, check_content=True)
    assert not hub.asked
