"""`wan22 serve`: checks the configuration, then does what `serve run` does, and takes everything down at the end."""

import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml
from pydantic import BaseModel, ValidationError

from serve_app.settings import GENERATOR_STARTS, Settings, describe, parse_settings
from wan22_bridge.errors import ConfigurationError, StorageFailed

IMPORT_PATH = "serve_app.app:build_app"
POLICY = "deployments.autoscaling:FollowDemand"
_READY_TIMEOUT_SECONDS = 300.0
_END_SECONDS = 5.0


def load_config(path: Path, *, port: int | None, data_dir: Path | None) -> tuple[dict[str, Any], Settings]:
    """Reads a Serve config, applies the overrides and checks all of it before anything starts.

    Returns:
        The config for `serve run`, and the settings of this application in it.

    Raises:
        ConfigurationError: naming the key that is wrong.
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
            f"{path}: {key}: missing; generators come and go by policy_function: {POLICY}.", param=key
        )
    args = application["args"] = dict(application.get("args") or {})
    if data_dir is not None:
        args["data_dir"] = str(data_dir)
    try:
        settings = parse_settings(args).with_absolute_paths()
        settings.served_models()
    except ConfigurationError as exc:
        lines = "\n".join(f"{path}: applications[{index}].args.{line}" for line in exc.message.splitlines())
        raise ConfigurationError(lines, param=exc.param) from exc
    return config, settings


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{path} can't be read: {exc.strerror}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not valid YAML: {exc}") from exc
    if not isinstance(config, dict) or not isinstance(config.get("http_options") or {}, dict):
        raise ConfigurationError(f"{path}: expected the keys of a Ray Serve config, such as applications.")
    return config


def _check_schema(config: dict[str, Any], path: Path) -> None:
    """Checks what Serve itself reads; Serve would pass over an unknown key of its own in silence."""
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
            raise ConfigurationError(f"{path}: {prefix}{unknown[0]}: unknown key; there are {known}.")
    try:
        ServeDeploySchema.model_validate(config)
    except ValidationError as exc:
        lines = "\n".join(f"{path}: {line}" for line in describe(exc).splitlines())
        raise ConfigurationError(lines) from exc


def check_machine(config: dict[str, Any], settings: Settings) -> None:
    """Makes sure that the port is free, the data folder and the bucket can be written and the database answers.

    Raises:
        ConfigurationError: naming the one that is not so.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from deployments.jobs.database import Database
    from deployments.storage.opening import open_storage

    host, port = _address(config)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise ConfigurationError(
                f"http_options.port: {host}:{port} can't be opened: {exc.strerror}. Choose another with --port.",
                param="http_options.port",
            ) from exc
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=settings.data_dir).close()
    except OSError as exc:
        raise ConfigurationError(
            f"data_dir: {settings.data_dir} can't be written: {exc.strerror}.", param="data_dir"
        ) from exc
    if settings.storage_url is not None:
        try:
            open_storage(settings.data_dir, settings.storage_url, patience_seconds=5).check()
        except StorageFailed as exc:
            raise ConfigurationError(f"storage_url: {exc.message} {exc.suggestions[0]}", param="storage_url") from exc
    assert settings.database_url is not None
    try:
        Database(settings.database_url).close()
    except (SQLAlchemyError, OSError) as exc:
        reason = str(exc).partition("\n")[0]
        raise ConfigurationError(f"database_url: the database can't be opened: {reason}", param="database_url") from exc


def run(config: dict[str, Any], *, verbose: bool, say: Callable[[str], None], say_error: Callable[[str], None]) -> int:
    """Serves until it is interrupted (SIGINT or SIGTERM); everything it started is gone when it returns.

    Args:
        config: a checked Serve config.
        verbose: whether Ray's and the replicas' logs go to the terminal.
        say: prints a line for the user.
        say_error: prints why it could not start.

    Returns:
        The exit status: 0 after an interruption, 1 if the application could not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # On a busy machine Serve's proxy takes longer to start than the 5 s after which Serve gives up.
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    # Of 3 by default and what the deployment says Serve takes the smaller one.
    os.environ.setdefault("RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT", str(GENERATOR_STARTS))
    import ray
    from ray.exceptions import RayError
    from ray.serve.scripts import cli

    failure: list[str] = []
    interrupted = threading.Event()

    def interrupt(_number: int, _frame: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory(prefix="wan22-") as folder:
        path = Path(folder) / "serve_config.yaml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        try:
            context = ray.init(
                namespace="serve", log_to_driver=verbose, logging_level=logging.INFO if verbose else logging.ERROR
            )
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, interrupt)
            say(f"Starting; Ray's dashboard: http://{context.dashboard_url}")
            watcher = threading.Thread(target=_watch, args=(config, failure, say), daemon=True)
            watcher.start()
            cli.main(["run", str(path)], standalone_mode=False)
        except KeyboardInterrupt:
            pass
        except (SystemExit, RayError) as exc:
            if not interrupted.is_set():
                reason = f": {str(exc).partition(chr(10))[0]}" if isinstance(exc, RayError) else ""
                failure.append(f"Ray Serve could not start the service{reason}; start it with --verbose to see why.")
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            started = psutil.Process().children(recursive=True)
            ray.shutdown()
            _, alive = psutil.wait_procs(started, timeout=_END_SECONDS)
            for process in alive:
                process.kill()
    if failure:
        say_error(failure[0])
        return 1
    say("Stopped.")
    return 0


def _watch(config: dict[str, Any], failure: list[str], say: Callable[[str], None]) -> None:
    """Tells when the service is ready; stops the process if it can't be."""
    from ray import serve

    host, port = _address(config)
    [prefix] = [item.get("route_prefix") for item in config["applications"] if item["import_path"] == IMPORT_PATH][:1]
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}{(prefix or '').rstrip('/')}"
    deadline = time.monotonic() + _READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if _is_ready(url):
            say(f"Ready: {url}   API: {url}/docs   Ctrl-C stops it.")
            return
        for name, application in serve.status().applications.items():
            if application.status == "DEPLOY_FAILED":
                failure.append(f"The application {name} could not start: {application.message}")
                os.kill(os.getpid(), signal.SIGINT)
                return
        time.sleep(0.2)
    failure.append(f"The service was not ready within {_READY_TIMEOUT_SECONDS:.0f} s; start it with --verbose.")
    os.kill(os.getpid(), signal.SIGINT)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5) as answer:
            return bool(json.load(answer).get("status") == "ready")
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _address(config: dict[str, Any]) -> tuple[str, int]:
    options = config.get("http_options") or {}
    return str(options.get("host", "127.0.0.1")), int(options.get("port", 8000))
