"""Effects of a running service on its machine: the port it listens on, and access to Ray's dashboard."""

import re
import subprocess

import httpx
import psutil

from tests.service import WAN22, Service


def test_a_second_service_on_the_same_port_is_rejected(service: Service) -> None:
    command = [WAN22, "serve", "--config", str(service.config), "--port", str(service.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{service.port}: Address already in use" in done.stderr
    assert service.finished()["status"] == "completed", "the first service still works"


def test_the_dashboard_opens_with_the_printed_url_and_token_and_not_without(service: Service) -> None:
    service.finished()
    printed = re.search(r"Ray's dashboard: (\S+) - it asks for this token: (\S+)", service.log.read_text())
    assert printed is not None
    url, token = printed.groups()
    applications = f"{url}/api/serve/applications/"
    assert httpx.get(url).is_success, "the page that asks for the token"
    assert httpx.get(applications).status_code == 401
    assert httpx.get(applications, headers={"Authorization": f"Bearer {token[::-1]}"}).status_code == 403

    login = httpx.post(f"{url}/api/authenticate", headers={"Authorization": f"Bearer {token}"})
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": _cookie(login)}):
        answer = httpx.get(applications, headers=headers, timeout=30)
        assert answer.status_code == 200
        deployments = answer.json()["applications"]["wan22"]["deployments"]
        assert deployments["ingress"]["replicas"][0]["state"] == "RUNNING"


def _cookie(login: httpx.Response) -> str:
    """Returns the cookie that the dashboard's form gets."""
    return str(login.headers["Set-Cookie"]).partition(";")[0]


def test_no_process_listens_on_the_network(service: Service) -> None:
    """The default host is 127.0.0.1, and Ray's own ports are not for others either."""
    listening = [
        (process.name(), *connection.laddr)
        for process in service.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert service.port in [port for _, _, port in listening]
    assert len(listening) > 10, "Ray has many ports"
    assert [found for found in listening if found[1] not in ("127.0.0.1", "::1", "::ffff:127.0.0.1")] == []
