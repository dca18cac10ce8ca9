"""`wan22 usage`: shows the use of a running service by its clients, and the caller's limits."""

from typing import Annotated

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.terminal import print_json, print_rows, reporting_errors, warn


def usage(
    days: Annotated[int, typer.Option(min=1, max=90, help="Number of days to show, with today.")] = 1,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show GPU seconds and uploads of each day (UTC), of all clients for an administrator, and the caller's limits."""
    with reporting_errors(), Client(url, api_key) as client:
        found = client.usage(days=days)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["day"],
            each["client"],
            f"{each['gpu_seconds']:.0f}",
            each["uploads"],
            f"{each['upload_bytes'] / 1e6:.1f}",
        )
        for each in found["days"]
    ]
    print_rows(("day", "client", "GPU seconds", "uploads", "MB"), rows)
    limits = ", ".join(f"{name} {limit}" for name, limit in found["limits"].items() if limit is not None)
    warn(f"{found['client']}: {found['pending_jobs']} pending jobs. Limits: {limits or 'none'}.")
