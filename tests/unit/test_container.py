"""The Dockerfile, compose.yaml and the Kubernetes config agree with the repository. No Docker engine is needed."""

import re

import yaml

from tests.service import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_every_copied_file_exists_and_is_part_of_the_build_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert {f"!{source}" for source in sources} == set(re.findall("^!.+", _read(".dockerignore"), re.MULTILINE))


def test_every_config_in_the_image_listens_on_all_addresses() -> None:
    [names] = re.findall(r"for config in (.+); do", DOCKERFILE)
    for name in names.split():
        assert yaml.safe_load(_read(name))["http_options"]["host"] == "127.0.0.1"
        assert len(re.findall(r"host: 127\.0\.0\.1", _read(name))) == 1


def test_compose_and_kubernetes_run_the_same_image() -> None:
    services = yaml.safe_load(_read("compose.yaml"))["services"]
    [image] = {service["image"] for service in services.values()}
    cluster = yaml.safe_load(_read("configs/kuberay.yaml"))["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert {group["template"]["spec"]["containers"][0]["image"] for group in groups} == {image}


def _read(name: str) -> str:
    return (ROOT / name).read_text()
