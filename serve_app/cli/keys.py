"""`wan22 keys`: creates, lists and ends API keys and signed links, directly in the service's database."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.jobs.api_keys import Scope
from serve_app.cli.database import DatabaseUrl, DataDir, ServiceConfig, open_store
from serve_app.cli.known_models import DEFAULT_CONFIG
from serve_app.cli.options import AsJson
from serve_app.cli.terminal import print_json, print_rows, reporting_errors, say, warn

if TYPE_CHECKING:
    from deployments.jobs.api_keys import ApiKey, ApiKeys

app = typer.Typer(
    no_args_is_help=True,
    help="Create, list, rotate and revoke API keys. The commands open the database, so they need no running service.",
)

_KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id; see `wan22 keys list`.")]
_DAY_SECONDS = 24 * 3600.0


@app.command()
def create(
    owner: Annotated[str, typer.Option(help="Name of the owner of the jobs that are submitted with the key.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="A scope of the key; may be repeated. Default: read and submit.")
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(min=0.001, max=36500, help="Lifetime in days. Default: the key does not expire.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A limit of the key in place of the service's, such as pending_jobs=10; `none` for no limit. May be "
            "repeated.",
        ),
    ] = None,
    config: ServiceConfig = DEFAULT_CONFIG,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Create a key and print it. It can't be printed again.

    The scope `read` reads the owner's jobs, `submit` makes and changes them, and `admin` may do everything.
    """
    from deployments.jobs.limits import parse_limit

    lifetime = None if expires_days is None else expires_days * _DAY_SECONDS
    with reporting_errors():
        limits = {name: value for text in limit or () for name, value in parse_limit(text).items()}
    with _open_keys(config, data_dir, database_url, create=True) as keys:
        scopes = scope or [Scope.READ, Scope.SUBMIT]
        _print_new(*keys.create(owner, scopes, lifetime_seconds=lifetime, limits=limits))


@app.command("list")
def list_keys(
    as_json: AsJson = False,
    config: ServiceConfig = DEFAULT_CONFIG,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """List all keys, without their secrets."""
    with _open_keys(config, data_dir, database_url) as keys:
        rows = [_describe(key) for key in keys.all()]
    if as_json:
        print_json(rows)
        return
    header = ("id", "owner", "scopes", "status", "created_at", "expires_at", "last_used_at", "limits")
    cells = [[_show(row[name]) for name in header] for row in rows]
    print_rows(("key", "owner", "scopes", "status", "created", "expires", "last used", "limits"), cells)


@app.command()
def revoke(
    key_id: _KeyId, config: ServiceConfig = DEFAULT_CONFIG, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """End a key. A running service rejects it within seconds."""
    with _open_keys(config, data_dir, database_url) as keys:
        key = keys.revoke(key_id)
    say(f"The key {key.id} of {key.owner} is revoked.")


@app.command()
def rotate(
    key_id: _KeyId,
    overlap_hours: Annotated[
        float, typer.Option(min=0, max=8760, help="Time for which the old key stays valid, in hours.")
    ] = 24,
    config: ServiceConfig = DEFAULT_CONFIG,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Replace a key by a new one with the same owner, scopes, limits and lifetime, and print the new one."""
    with _open_keys(config, data_dir, database_url) as keys:
        _print_new(*keys.rotate(key_id, overlap_seconds=overlap_hours * 3600))
        warn(f"The key {key_id} stays valid for {overlap_hours:g} hours at most.")


@app.command("rotate-links")
def rotate_links(
    config: ServiceConfig = DEFAULT_CONFIG, data_dir: DataDir = None, database_url: DatabaseUrl = None
) -> None:
    """End all signed links to videos and all sessions of the web page, by replacing the secret that signs them.

    A running service notices in seconds.
    """
    from deployments.jobs.audit import Actor
    from deployments.jobs.stored_settings import LINK_SECRET, make_link_secret

    with reporting_errors(), open_store(config, data_dir, database_url) as store:
        store.settings.change(LINK_SECRET, None, lambda _: make_link_secret())
        store.audit.record(Actor.local(), "rotate_links", LINK_SECRET)
    say("All signed links and sessions have ended. New ones are signed with a new secret.")


@contextmanager
def _open_keys(
    config: Path, data_dir: Path | None, database_url: str | None, *, create: bool = False
) -> "Iterator[ApiKeys]":
    """Opens the keys in a service's database. An error ends the command."""
    with reporting_errors(), open_store(config, data_dir, database_url, create=create) as store:
        yield store.keys


def _print_new(key: "ApiKey", text: str) -> None:
    """Prints a key alone to standard output, so that a script can take it, and its description to standard error."""
    end = "does not expire" if key.expires_at is None else f"expires at {_format(key.expires_at)}"
    warn(f"Key {key.id} of {key.owner}, scopes {', '.join(sorted(key.scopes))}; it {end}. Store it now:")
    say(text)


def _describe(key: "ApiKey") -> dict[str, Any]:
    now = datetime.now(UTC).timestamp()
    return {
        "id": key.id,
        "owner": key.owner,
        "scopes": [scope.value for scope in Scope if scope in key.scopes],
        "status": "revoked" if key.revoked_at is not None else "valid" if key.is_valid(now) else "expired",
        "created_at": _format(key.created_at),
        "expires_at": None if key.expires_at is None else _format(key.expires_at),
        "last_used_at": None if key.last_used_at is None else _format(key.last_used_at),
        "limits": dict(key.limits),
    }


def _show(value: Any) -> str:
    """Returns a value as a cell of the table."""
    if isinstance(value, dict):
        value = [f"{name}={'none' if limit is None else limit}" for name, limit in value.items()]
    return (",".join(value) if isinstance(value, list) else value) or "-"


def _format(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
