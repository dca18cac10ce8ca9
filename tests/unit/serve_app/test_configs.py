"""The configs that come with the project are valid."""

from pathlib import Path

import pytest
import yaml
from ray import serve
from ray.serve.schema import ServeDeploySchema

from deployments.autoscaling import FollowDemand
from serve_app.app import build_app
from serve_app.running.config import POLICY, load_config
from tests.nginx import check_config, write_config
from tests.service import ROOT
from wan22_bridge.errors import ConfigurationError

CONFIGS = ["serve_config.yaml", "configs/single_gpu.yaml", "configs/multi_gpu.yaml", "configs/cluster.yaml"]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_application_is_built_from_each_config(name: str, tmp_path: Path) -> None:
    config, settings = load_config(ROOT / name, port=None, data_dir=tmp_path)
    assert isinstance(build_app(settings), serve.Application)
    policy = config["applications"][0]["autoscaling_policy"]
    assert policy["policy_function"] == POLICY
    FollowDemand(**policy["policy_kwargs"])
    assert (settings.generator.num_gpus > 0) == name.startswith("configs/")


def test_the_kuberay_config_embeds_the_cluster_config() -> None:
    documents = yaml.safe_load_all((ROOT / "configs/kuberay.yaml").read_text())
    service = next(document for document in documents if document["kind"] == "RayService")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert config == yaml.safe_load((ROOT / "configs/cluster.yaml").read_text())
    ServeDeploySchema.model_validate(config)
    workers = service["spec"]["rayClusterConfig"]["workerGroupSpecs"][0]
    assert workers["maxReplicas"] == config["applications"][0]["args"]["max_running_jobs"]
    [container] = workers["template"]["spec"]["containers"]
    shared = {mount["mountPath"] for mount in container["volumeMounts"]}
    args = config["applications"][0]["args"]
    assert all(any(str(Path(args[key])).startswith(path) for path in shared) for key in ("data_dir", "models_dir"))


def test_a_config_without_the_autoscaling_policy_is_rejected(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    del config["applications"][0]["autoscaling_policy"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigurationError, match=r"applications\[0\]\.autoscaling_policy: missing"):
        load_config(path, port=None, data_dir=None)


def test_nginx_accepts_its_configuration(tmp_path: Path) -> None:
    checked = check_config(tmp_path, write_config(tmp_path, service_port=8000, port=8443, plain_port=8080))
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr
