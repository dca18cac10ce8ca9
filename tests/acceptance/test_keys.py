"""A service that other machines can reach needs keys, however it is started."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from openai import AuthenticationError, OpenAI

from tests.service import WAN22, Service, environment, launch, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # raised by the package, about OpenAI's service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that is to listen on all addresses, and that has not started."""
    service = Service(tmp_path)
    config = yaml.safe_load(service.config.read_text())
    config["http_options"] |= {"host": "0.0.0.0", "port": service.port}
    config["applications"][0]["args"]["data_dir"] = str(service.data_dir)
    service.config.write_text(yaml.safe_dump(config))
    yield service
    service.stop()


def _create_key(service: Service, *options: str) -> str:
    command = [WAN22, "keys", "create", "--config", str(service.config), "--data-dir", str(service.data_dir)]
    made = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return made.stdout.strip()


def test_a_service_starts_with_its_first_key_and_asks_for_it(service: Service, tmp_path: Path) -> None:
    service.launch()
    assert service.process is not None
    assert service.process.wait(120) == 2
    assert "http_options.host: a service that listens on 0.0.0.0 needs API keys" in service.log.read_text()
    assert "wan22 keys create --owner NAME --scope admin" in service.log.read_text()

    key = _create_key(service, "--owner", "alice")
    service.start()
    with service.client() as client:
        assert client.get("/api/v1/queue").status_code == 401
        assert client.get("/api/v1/queue", headers={"x-api-key": key}).json()["total_tasks"] == 0
    command = [WAN22, "generate", "a red circle", "--url", service.url, "--size", "64x64", "--frames", "5"]
    command += ["--steps", "2", "-o", str(tmp_path / "out.mp4")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "Give a valid key with --api-key or in WAN22_API_KEY." in refused.stderr
    subprocess.run(command, env=environment(WAN22_API_KEY=key), check=True, capture_output=True)
    assert (tmp_path / "out.mp4").stat().st_size > 0

    videos = OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0).videos
    [video] = videos.list().data
    assert videos.download_content(video.id).read() == (tmp_path / "out.mp4").read_bytes()
    other = _create_key(service, "--owner", "bob")
    others = OpenAI(base_url=f"{service.url}/v1", api_key=other, max_retries=0).videos
    wait_until(lambda: _list_or_none(others) is not None)
    assert _list_or_none(others) == []


def _list_or_none(videos: object) -> list[object] | None:
    """Lists videos, or returns None as long as the service does not know the key."""
    try:
        return list(videos.list().data)  # type: ignore[attr-defined]
    except AuthenticationError:
        return None


def test_plain_ray_serve_refuses_to_deploy_a_service_without_keys(service: Service) -> None:
    command = [str(Path(sys.executable).parent / "serve"), "run", str(service.config)]
    with service.log.open("ab") as log:
        service.process = launch(command, stdout=log, stderr=log, start_new_session=True)
    wait_until(lambda: "needs API keys, and its database has no valid one" in service.log.read_text(), seconds=180)
    assert not _answers(service)


def _answers(service: Service) -> bool:
    """Returns whether the service answers a request. Ray Serve's proxy keeps requests that no replica can take."""
    try:
        return httpx.get(f"{service.url}/healthz", timeout=5).is_success
    except httpx.TransportError:
        return False
