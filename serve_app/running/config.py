"""Reading and checking a Ray Serve config before anything starts."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from serve_app.settings import Settings, describe, parse_settings
from wan22_bridge.errors import ConfigurationError

IMPORT_PATH = "serve_app.app:build_app"
"""The `import_path` of this application in a Serve config."""
POLICY = "deployments.autoscaling:FollowDemand"
"""The `policy_function` that starts and stops generators."""


def load_config(
    path: Path, *, port: int | None, data_dir: Path | None, locked: bool = True
) -> tuple[dict[str, Any], Settings]:
    """Reads a Serve config, applies the overrides and checks every key.

    Args:
        path: the YAML file.
        port: replaces `http_options.port`.
        data_dir: replaces `data_dir` in the application's `args`.
        locked: whether the lock file of the models must fit the config.

    Returns:
        The config for `serve run`, and the settings of this application in it.

    Raises:
        ConfigurationError: a key is wrong; the message names it.
    """
    config = _read_yaml(path)
    if port is not None:
        config["http_options"] = {**(config.get("http_options") or {}), "port": port}
    _check_schema(config, path)
    paths = [application["import_path"] for application in config["applications"]]
    if IMPORT_PATH not in paths:
        raise ConfigurationError(f"{path}: no application has the import_path {IMPORT_PATH}.", param="import_path")
    index = paths.index(IMPORT_PATH)
    application = config["applications"][index]
    if not application.get("autoscaling_policy"):
        key = f"applications[{index}].autoscaling_policy"
        raise ConfigurationError(
            f"{path}: {key}: missing; without it no generator starts. Expected policy_function: {POLICY}.", param=key
        )
    args = application["args"] = dict(application.get("args") or {})
    if data_dir is not None:
        args["data_dir"] = str(data_dir)
    try:
        settings = parse_settings(args).with_absolute_paths()
        settings.served_models(locked=locked)
    except ConfigurationError as exc:
        lines = "\n".join(f"{path}: applications[{index}].args.{line}" for line in exc.message.splitlines())
        raise ConfigurationError(lines, param=exc.param) from exc
    return config, settings


def find_address(config: dict[str, Any]) -> tuple[str, int]:
    """Returns the host and the port that the service listens on."""
    options = config.get("http_options") or {}
    return str(options.get("host", "0.0.0.0")), int(options.get("port", 8000))  # Ray Serve's defaults


def find_url(config: dict[str, Any]) -> str:
    """Returns the URL of the service, as this machine reaches it."""
    host, port = find_address(config)
    prefixes = [item.get("route_prefix") for item in config["applications"] if item["import_path"] == IMPORT_PATH]
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}{(prefixes[0] or '').rstrip('/')}"


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc.strerror}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not valid YAML: {exc}") from exc
    if not isinstance(config, dict) or not isinstance(config.get("http_options") or {}, dict):
        raise ConfigurationError(f"{path}: expected the keys of a Ray Serve config, such as applications.")
    return config


def _check_schema(config: dict[str, Any], path: Path) -> None:
    """Checks the keys that Serve reads. Serve itself ignores unknown keys silently."""
    from ray.serve.schema import HTTPOptionsSchema, ServeApplicationSchema, ServeDeploySchema

    parts: list[tuple[str, Any, type[BaseModel]]] = [
        ("", config, ServeDeploySchema),
        ("http_options.", config.get("http_options"), HTTPOptionsSchema),
    ]
    applications = config.get("applications")
    for index, application in enumerate(applications if isinstance(applications, list) else ()):
        parts.append((f"applications[{index}].", application, ServeApplicationSchema))
    for prefix, part, schema in parts:
        unknown = sorted(set(part) - set(schema.model_fields)) if isinstance(part, dict) else []
        if unknown:
            known = ", ".join(schema.model_fields)
            raise ConfigurationError(f"{path}: {prefix}{unknown[0]}: unknown key; expected one of {known}.")
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as exc:
        lines = "\n".join(f"{path}: {line}" for line in describe(exc).splitlines())
        raise ConfigurationError(lines) from exc
