"""`wan22 models lock`: pins the files of all models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serve_app.cli.database import record_action
from serve_app.cli.known_models import DEFAULT_CONFIG, Config, ModelsDir, read_models
from serve_app.cli.terminal import fail, output, reporting_errors, say

if TYPE_CHECKING:
    from wan22_bridge.catalogue import ModelSpec
    from wan22_bridge.fetching import Manifest


def lock(
    config: Config = DEFAULT_CONFIG,
    models_dir: ModelsDir = None,
    path: Annotated[Path | None, typer.Option("--output", help="The lock file. Default: the config's.")] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Pin the hub's present files, instead of those on this machine.")
    ] = False,
) -> None:
    """Pin the commit and the hash of each file of all served models, and of those on this machine, in a lock file.

    A service that has the lock file downloads and uses no other files. Models that are not on this machine are pinned
    as the hub has them now.
    """
    from wan22_bridge.fetching.downloads import read_model_manifest
    from wan22_bridge.fetching.lockfile import write_lock

    manifests: dict[str, Manifest] = {}
    with reporting_errors():
        models = read_models(config, models_dir, locked=False)
        for spec in models.specs.values():
            present = read_model_manifest(spec, models.folder) if spec.is_fetched else None
            if present is None and not (spec.is_fetched and spec.id in models.served):
                continue
            with output.status(f"Pinning {spec.id}"):
                manifests[spec.id] = _describe(spec) if update or present is None else present
        if not manifests:
            fail(
                "There is no model to pin: none is downloaded, and the config serves none from the hub.",
                suggestions=["Download one with `wan22 models pull`, or name the service's config with --config."],
            )
        target = path or models.lock_path
        write_lock(target, manifests)
        record_action(config, "lock_models", ", ".join(manifests))
    for model_id, manifest in manifests.items():
        say(f"{model_id}: {len(manifest.files)} files of {manifest.repository} at {manifest.commit}")
    say(f"Written to {target}")


def _describe(spec: "ModelSpec") -> "Manifest":
    from wan22_bridge.fetching import FetchProgress
    from wan22_bridge.fetching.hub import Hub
    from wan22_bridge.fetching.retrying import retry

    return retry(lambda: Hub().describe(spec.source_ref, spec.revision), FetchProgress(), what=spec.source_ref)
