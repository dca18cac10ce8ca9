"""The token of the hub is sent to the hub only."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub import REPOSITORY, HubServer, serving_hub
from wan22_bridge.errors import DownloadFailed
from wan22_bridge.fetching import FetchProgress, fetch_model, read_manifest
from wan22_bridge.fetching import hub as hub_module

_TOKEN = "hf_marker_of_the_token"
_FILES = {"model_index.json": b"{}", "transformer/config.json": b"{}", "transformer/a.safetensors": b"weights"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    for name, content in _FILES.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_bytes(content)
    return tmp_path / "hub"


@pytest.fixture
def hub(model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("HF_TOKEN", _TOKEN)
    with serving_hub(model) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def _fetch(folder: Path) -> None:
    fetch_model(REPOSITORY, None, folder, FetchProgress())


def _seen(server: HubServer) -> set[str | None]:
    return {token for _, token in server.tokens}


def test_a_mirror_gets_no_token(hub: HubServer, tmp_path: Path) -> None:
    _fetch(tmp_path / "model")
    assert len(hub.tokens) >= len(_FILES)
    assert _seen(hub) == {None}


def test_a_mirror_gets_the_token_if_the_operator_names_it(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN22_HF_TOKEN_ENDPOINT", f"{hub.url}/")
    _fetch(tmp_path / "model")
    assert f"Bearer {_TOKEN}" in _seen(hub)


def test_another_mirror_gets_no_token(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAN22_HF_TOKEN_ENDPOINT", "https://mirror.example")
    _fetch(tmp_path / "model")
    assert _seen(hub) == {None}


def test_the_server_to_which_the_hub_redirects_gets_no_token(
    hub: HubServer, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_ENDPOINT")
    monkeypatch.setattr(hub_module, "_HUB", hub.url)
    with serving_hub(model) as cdn:
        hub.cdn_url = cdn.url
        _fetch(tmp_path / "model")
        assert [path for path, _ in cdn.tokens] == ["/cdn/transformer/a.safetensors"]
        assert _seen(cdn) == {None}
    assert _seen(hub) == {f"Bearer {_TOKEN}"}


def test_the_error_of_a_mirror_says_that_it_got_no_token(hub: HubServer, tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed) as caught:
        fetch_model("wan/unknown", None, tmp_path / "model", FetchProgress())
    assert any("WAN22_HF_TOKEN_ENDPOINT" in suggestion for suggestion in caught.value.suggestions)


def test_the_error_does_not_repeat_the_password_of_the_endpoint(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("http://", "http://me:hidden@"))
    with pytest.raises(DownloadFailed) as caught:
        fetch_model("wan/unknown", None, tmp_path / "model", FetchProgress())
    assert "hidden" not in str(caught.value.to_dict())


def test_a_model_with_a_file_without_a_hash_is_rejected(hub: HubServer, tmp_path: Path) -> None:
    hub.without_hashes = True
    with pytest.raises(DownloadFailed) as caught:
        _fetch(tmp_path / "model")
    assert caught.value.code == "hash_missing"
    assert "model_index.json" in caught.value.message
    assert not (tmp_path / "model" / "model_index.json").exists()
    assert read_manifest(tmp_path / "model") is None
