"""`wan22 clean`: removes what its retention ends, without waiting for the service to do it."""

from dataclasses import asdict
from typing import Annotated

import typer

from serve_app.cli.database import DatabaseUrl, DataDir, ServiceConfig, open_store, read_settings
from serve_app.cli.known_models import DEFAULT_CONFIG
from serve_app.cli.options import AsJson
from serve_app.cli.terminal import print_json, print_rows, reporting_errors, say, warn

_MB = 10**6


def clean(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing.")
    ] = False,
    orphans: Annotated[
        bool,
        typer.Option(
            "--orphans",
            help="Also remove the outputs and the old inputs that the database has never had. Make sure that the "
            "database and the data folder belong together.",
        ),
    ] = False,
    as_json: AsJson = False,
    config: ServiceConfig = DEFAULT_CONFIG,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Remove old data now, as the config's `retention` says, and files that no job needs. The service may run."""
    from deployments.jobs.cleaning import Cleaner
    from deployments.storage.opening import open_storage

    with reporting_errors():
        settings = read_settings(config, data_dir)
        with open_store(config, data_dir, database_url) as store:
            storage = open_storage(settings.data_dir, settings.storage_url)
            cleaner = Cleaner(store, storage, settings.retention.to_retention(), orphans=orphans)
            found = cleaner.clean(dry_run=dry_run)
    if as_json:
        print_json([asdict(item) for item in found])
        return
    print_rows(("size", "count", "kind"), [(_format(item.size_bytes), str(item.count), item.kind) for item in found])
    total = sum(item.size_bytes or 0 for item in found if not item.kept)
    say(f"{_format(total)} {'would be' if dry_run else 'are'} freed.")
    if any(item.kept and item.count for item in found):
        warn("The orphaned outputs and inputs stay: the database has never had them. --orphans removes them.")


def _format(size_bytes: int | None) -> str:
    return "-" if size_bytes is None else f"{size_bytes / _MB:.1f} MB"
