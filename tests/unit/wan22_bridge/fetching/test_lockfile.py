"""A lock file pins the files of models."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.hub import COMMIT, REPOSITORY, HubServer, serving_hub
from wan22_bridge.catalogue import ModelSpec, load_catalogue
from wan22_bridge.errors import ConfigurationError, DownloadFailed
from wan22_bridge.fetching import read_manifest
from wan22_bridge.fetching.downloads import ensure_model, find_model
from wan22_bridge.fetching.lockfile import apply_lock, write_lock

_BIG, _SMALL = "transformer/a.safetensors", "model_index.json"
_FILES = {_SMALL: b"{}", "transformer/config.json": b"{}", _BIG: b"weights"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    for name, content in _FILES.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_bytes(content)
    with serving_hub(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def spec() -> ModelSpec:
    return replace(load_catalogue()["wan2.2-ti2v-5b"], id="model", source_ref=REPOSITORY)


@pytest.fixture
def locked(hub: HubServer, spec: ModelSpec, tmp_path: Path) -> ModelSpec:
    """The downloaded model as a lock file pins it."""
    ensure_model(spec, tmp_path)
    manifest = read_manifest(tmp_path / "model")
    assert manifest is not None
    write_lock(tmp_path / "models.lock", {"model": manifest})
    [pinned] = apply_lock(tmp_path / "models.lock", [spec])
    assert pinned.revision == COMMIT
    return pinned


def test_a_downloaded_model_is_used_as_it_is(hub: HubServer, locked: ModelSpec, tmp_path: Path) -> None:
    assert find_model(locked, tmp_path) == tmp_path / "model"
    ensure_model(locked, tmp_path)
    assert hub.asked.total() == len(_FILES)


@pytest.mark.parametrize("name", [_BIG, _SMALL])
def test_a_changed_file_of_the_same_size_is_not_used_until_it_is_replaced(
    hub: HubServer, locked: ModelSpec, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "model" / name
    path.write_bytes(b"x" * len(_FILES[name]))
    os.utime(path, ns=(1, 1))
    assert find_model(locked, tmp_path) is None
    ensure_model(locked, tmp_path)
    assert path.read_bytes() == _FILES[name]
    assert hub.asked[name] == 2
    assert find_model(locked, tmp_path) is not None


def test_a_touched_file_is_hashed_and_not_downloaded(hub: HubServer, locked: ModelSpec, tmp_path: Path) -> None:
    os.utime(tmp_path / "model" / _BIG, ns=(1, 1))
    assert find_model(locked, tmp_path) is None
    ensure_model(locked, tmp_path)
    assert find_model(locked, tmp_path) is not None
    assert hub.asked[_BIG] == 1


def test_other_files_at_the_hub_are_not_downloaded(hub: HubServer, locked: ModelSpec, tmp_path: Path) -> None:
    (hub.folder / _BIG).write_bytes(b"changed")
    with pytest.raises(DownloadFailed) as caught:
        ensure_model(locked, tmp_path / "elsewhere")
    assert caught.value.code == "lock_mismatch"
    assert _BIG in caught.value.message
    assert not (tmp_path / "elsewhere" / "model" / _BIG).exists()
    assert hub.asked[_BIG] == 1


def test_a_file_that_the_lock_does_not_pin_is_not_downloaded(hub: HubServer, locked: ModelSpec, tmp_path: Path) -> None:
    (hub.folder / "transformer/b.safetensors").write_bytes(b"new")
    with pytest.raises(DownloadFailed) as caught:
        ensure_model(locked, tmp_path / "elsewhere")
    assert "transformer/b.safetensors" in caught.value.message


def test_files_of_another_commit_are_not_used(hub: HubServer, locked: ModelSpec, tmp_path: Path) -> None:
    other = replace(locked, locked_files={**(locked.locked_files or {}), _BIG: "sha256:" + "0" * 64})
    assert find_model(other, tmp_path) is None
    with pytest.raises(DownloadFailed):
        ensure_model(other, tmp_path)
    assert find_model(replace(locked, revision="2" * 40), tmp_path) is None


def test_a_lock_that_does_not_fit_the_config_is_an_error(locked: ModelSpec, spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    for changed, problem in (
        (replace(spec, id="other"), "has no model 'other'"),
        (replace(spec, source_ref="a/b"), f"has model from {REPOSITORY}, but the config has a/b"),
        (replace(spec, revision="2" * 40), "but the config has revision 2222"),
    ):
        with pytest.raises(ConfigurationError) as caught:
            apply_lock(path, [changed])
        assert problem in caught.value.message
        assert "wan22 models lock" in caught.value.message
    assert apply_lock(path, [replace(spec, revision="main")])[0].revision == COMMIT
    builtin = load_catalogue()["tiny-t2v"]
    assert apply_lock(path, [builtin]) == [builtin]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version": 2, "models": {}}', b'{"version": 1, "models": {"a": 1}}', b"\xff", None]
)
def test_a_lock_that_cannot_be_read_is_an_error(content: bytes | None, spec: ModelSpec, tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        apply_lock(path, [spec])
    assert caught.value.message.startswith("models_lock: ")
