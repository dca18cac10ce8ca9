"""A wrong config is rejected with a message that names the key."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_app.running.config import load_config
from tests.service import ROOT
from wan22_bridge.errors import ConfigurationError


def _write(folder: Path, **changes: Any) -> Path:
    """Writes the project's config with changed `args:`; changes named `top_KEY` replace a top-level key."""
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    for key, value in changes.items():
        if key.startswith("top_"):
            config[key.removeprefix("top_")] = value
        else:
            config["applications"][0]["args"][key] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_the_port_and_the_data_folder_can_be_overridden(tmp_path: Path) -> None:
    config, settings = load_config(ROOT / "serve_config.yaml", port=8123, data_dir=tmp_path)
    assert config["http_options"] == {"host": "127.0.0.1", "port": 8123}
    assert settings.data_dir == tmp_path
    assert settings.database_url == f"sqlite:///{tmp_path}/jobs.db"
    assert [spec.id for spec in settings.served_models()] == ["tiny-t2v", "tiny-i2v", "tiny-ti2v"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"modles": []}, "applications[0].args.modles: unknown key"),
        ({"max_running_jobs": 0}, "applications[0].args.max_running_jobs"),
        ({"lease_seconds": "soon"}, "applications[0].args.lease_seconds"),
        ({"generator": {"num_gpu": 1}}, "applications[0].args.generator.num_gpu: unknown key"),
        ({"storage_url": "http://x/y"}, "expected the URL of a bucket: s3://BUCKET/PREFIX"),
        ({"models": []}, "applications[0].args.models"),
        ({"models": ["tiny-v2v"]}, "applications[0].args.models[0]: the catalogue has no model 'tiny-v2v'"),
        ({"models": ["tiny-t2v", "tiny-t2v"]}, "applications[0].args.models[1]: 'tiny-t2v' is named twice"),
        ({"generator": {"preload": ["tiny"]}}, "applications[0].args.generator.preload[0]: 'tiny' is not among"),
        ({"models": [{"id": "wan2.2-ti2v-5b", "path": "/nonexistent"}]}, "applications[0].args.models[0]"),
        ({"top_http_option": {}}, "http_option: unknown key"),
        ({"top_http_options": {"prt": 1}}, "http_options.prt: unknown key"),
        ({"top_applications": [{"nmae": "x", "import_path": "a:b"}]}, "applications[0].nmae: unknown key"),
        ({"top_applications": [5]}, "applications"),
        ({"top_applications": [{"name": "x", "import_path": "a:b"}]}, "import_path"),
        ({"top_http_options": {"port": "many"}}, "http_options.port"),
        ({"top_http_options": 5}, "expected the keys"),
        ({"top_applications": []}, "import_path"),
    ],
)
def test_a_wrong_key_is_named(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_config(_write(tmp_path, **changes), port=None, data_dir=None)
    assert named in caught.value.message


@pytest.mark.parametrize("text", ["a: [", "- just\n- a list\n", "", "\x00"])
def test_a_file_that_is_not_a_config_is_rejected(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"config\.yaml"):
        load_config(tmp_path / "config.yaml", port=None, data_dir=None)


def test_a_missing_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_config(tmp_path / "none.yaml", port=None, data_dir=None)
