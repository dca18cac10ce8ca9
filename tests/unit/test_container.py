"""The Dockerfile, compose.yaml and the Kubernetes config agree with the repository. No Docker engine is needed."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.service import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_every_copied_file_exists_and_is_part_of_the_build_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert {f"!{Path(source).parts[0]}" for source in sources} == set(
        re.findall("^!.+", _read(".dockerignore"), re.MULTILINE)
    )


def test_every_config_in_the_image_listens_on_all_addresses() -> None:
    [names] = re.findall(r"for config in (.+); do", DOCKERFILE)
    for name in names.split():
        assert yaml.safe_load(_read(name))["http_options"]["host"] == "127.0.0.1"
        assert len(re.findall(r"host: 127\.0\.0\.1", _read(name))) == 1


def test_compose_and_kubernetes_run_the_same_image() -> None:
    services = yaml.safe_load(_read("compose.yaml"))["services"]
    [image] = {service["image"] for service in services.values()}
    assert {pod["containers"][0]["image"] for pod in _pods()} == {image}


def test_containers_can_change_neither_their_user_nor_their_image() -> None:
    for service in yaml.safe_load(_read("compose.yaml"))["services"].values():
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] > 0
        assert "privileged" not in service
    user = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000}
    for pod in _pods():
        assert pod["securityContext"] == user | {"seccompProfile": {"type": "RuntimeDefault"}}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    for container in _containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["1000:1000"]


def test_each_folder_that_the_service_writes_is_a_volume() -> None:
    written = {"/tmp", "/home/wan22"}
    for service in yaml.safe_load(_read("compose.yaml"))["services"].values():
        assert written | {"data:/data"} == set(service["volumes"])
    for container in _containers():
        assert written <= {mount["mountPath"] for mount in container["volumeMounts"]}
    for pod in _pods():
        names = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} <= names


def test_ray_needs_a_token_and_only_http_is_open_to_other_pods() -> None:
    policy, service = yaml.safe_load_all(_read("configs/kuberay.yaml"))
    assert service["spec"]["rayClusterConfig"]["authOptions"] == {"mode": "token"}
    labels = policy["spec"]["podSelector"]["matchLabels"]
    for group in _groups():
        assert group["template"]["metadata"]["labels"] == labels
    everyone, own, operator = policy["spec"]["ingress"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert everyone == {"ports": [{"protocol": "TCP", "port": yaml.safe_load(_serve_config())["http_options"]["port"]}]}
    assert own == {"from": [{"podSelector": {"matchLabels": labels}}]}
    assert operator["ports"] == [{"protocol": "TCP", "port": 8265}]
    assert operator["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def test_the_instructions_name_each_key_of_the_secret() -> None:
    text = _read("configs/kuberay.yaml")
    keys = set(re.findall(r"secretKeyRef: \{name: wan22, key: ([a-z-]+)", text))
    assert {"proxy-secret", "redis-password", "postgres-password"} <= keys
    head, guide = text.partition("apiVersion")[0], _read("docs/how-to/cluster.md")
    for key in keys:
        assert key in head
        assert f"`{key}`" in guide or f"--from-literal={key}=" in guide


def _serve_config() -> str:
    _, service = yaml.safe_load_all(_read("configs/kuberay.yaml"))
    config: str = service["spec"]["serveConfigV2"]
    return config


def _groups() -> list[dict[str, Any]]:
    _, service = yaml.safe_load_all(_read("configs/kuberay.yaml"))
    cluster = service["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def _pods() -> list[dict[str, Any]]:
    return [group["template"]["spec"] for group in _groups()]


def _containers() -> list[dict[str, Any]]:
    """Returns the containers of all pods, and the options of the autoscaler's container."""
    _, service = yaml.safe_load_all(_read("configs/kuberay.yaml"))
    autoscaler = service["spec"]["rayClusterConfig"]["autoscalerOptions"]
    return [autoscaler, *(container for pod in _pods() for container in pod["containers"])]


def _read(name: str) -> str:
    return (ROOT / name).read_text()
