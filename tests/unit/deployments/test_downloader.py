"""Corrupted files of downloaded models: their status, and their repair."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deployments.downloader import Downloader, Presence
from deployments.fitting import Fit
from serve_app.api.schemas.models import ModelStatus
from serve_app.settings import parse_settings
from tests.hub import REPOSITORY, Fault, HubServer, serving_hub
from wan22_bridge.builtin import ensure_tiny_model
from wan22_bridge.catalogue import ModelSpec
from wan22_bridge.errors import DownloadFailed

BIG, SMALL = "transformer/diffusion_pytorch_model.safetensors", "model_index.json"
SPEC = parse_settings(
    {"models": [{"id": "from-hub", "like": "tiny-ti2v", "repository": REPOSITORY}, "tiny-t2v"]}
).served_models()[0]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    shutil.copytree(ensure_tiny_model(tmp_path / "built-in", "ti2v"), tmp_path / "hub" / "model")
    with serving_hub(tmp_path / "hub" / "model") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def _open(folder: Path) -> Downloader:
    return Downloader(folder / "models", [SPEC], cast=False)


async def _presence(downloader: Downloader) -> Presence:
    return (await downloader.availability())[SPEC.id].presence


def _damage(folder: Path, *, name: str = BIG) -> None:
    path = folder / "models" / SPEC.id / name
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_a_failed_verification_makes_a_model_corrupted_until_it_is_repaired(hub: HubServer, tmp_path: Path) -> None:
    async def run() -> None:
        downloader = _open(tmp_path)
        await downloader.ensure(SPEC.id)
        _damage(tmp_path)
        assert await _presence(downloader) is Presence.AVAILABLE, "only hashing finds the damage"
        assert await downloader.verify(SPEC.id) == {BIG: "wrong_content"}
        assert await _presence(downloader) is Presence.CORRUPTED
        assert await _presence(_open(tmp_path)) is Presence.CORRUPTED, "a restarted service knows it"
        hub.asked.clear()
        await downloader.ensure(SPEC.id)
        assert hub.asked == {BIG: 1}
        assert await _presence(downloader) is Presence.AVAILABLE
        assert await downloader.verify(SPEC.id) == {}

    asyncio.run(run())


def test_a_repair_that_fails_leaves_the_model_corrupted(hub: HubServer, tmp_path: Path) -> None:
    async def run() -> None:
        downloader = _open(tmp_path)
        await downloader.ensure(SPEC.id)
        _damage(tmp_path)
        hub.faults[BIG].append(Fault(status=404))
        with pytest.raises(DownloadFailed):
            await downloader.ensure(SPEC.id, check_content=True)
        found = (await downloader.availability())[SPEC.id]
        assert found.presence is Presence.CORRUPTED
        assert found.error is not None
        await downloader.start(SPEC.id)
        await downloader.ensure(SPEC.id)
        assert await _presence(downloader) is Presence.AVAILABLE

    asyncio.run(run())


def test_a_file_of_another_size_is_found_without_a_verification(hub: HubServer, tmp_path: Path) -> None:
    async def run() -> None:
        await _open(tmp_path).ensure(SPEC.id)
        (tmp_path / "models" / SPEC.id / SMALL).write_text("{}")
        assert await _presence(_open(tmp_path)) is Presence.CORRUPTED
        (tmp_path / "models" / SPEC.id / SMALL).unlink()
        assert await _presence(_open(tmp_path)) is Presence.MISSING

    asyncio.run(run())


def test_a_file_that_an_operator_restored_ends_the_damage(hub: HubServer, tmp_path: Path) -> None:
    async def run() -> None:
        downloader = _open(tmp_path)
        await downloader.ensure(SPEC.id)
        for _ in range(2):
            _damage(tmp_path, name=SMALL)  # the second time restores the content
            await downloader.verify(SPEC.id)
        assert await _presence(downloader) is Presence.AVAILABLE

    asyncio.run(run())


def test_the_status_of_a_corrupted_model_says_how_to_repair_it(hub: HubServer, tmp_path: Path) -> None:
    async def run() -> Any:
        downloader = _open(tmp_path)
        await downloader.ensure(SPEC.id)
        _damage(tmp_path)
        await downloader.verify(SPEC.id)
        return (await downloader.availability())[SPEC.id]

    spec: ModelSpec = SPEC
    status = ModelStatus.of(spec, asyncio.run(run()), [], Fit(fits=None))
    assert (status.status, status.is_valid, status.is_cached, status.integrity_verified) == (
        "corrupted",
        False,
        False,
        False,
    )
    assert status.error_message is not None
    assert "/api/v1/models/verify/from-hub" in status.error_message
