"""`wan22 audit`: shows what administrators have changed."""

import json
from typing import Annotated

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.terminal import print_json, print_rows, reporting_errors


def audit(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of entries to show.")] = 50,
    before: Annotated[int | None, typer.Option(min=1, help="Show only entries with smaller numbers.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Show the newest entries of a running service's audit log. Needs a key with the scope admin, where keys are on."""
    with reporting_errors(), Client(url, api_key) as client:
        actions = client.audit(limit=limit, before=before)
    if as_json:
        print_json(actions)
        return
    rows = []
    for action in actions:
        actor = action["actor"] or "-"
        who = f"{actor} ({action['key_id'] or action['source']})"
        details = json.dumps(action["details"], ensure_ascii=False) if action["details"] else ""
        rows.append(
            (action["number"], action["at"], who, action["action"], action["target"], action["result"], details)
        )
    print_rows(("number", "time", "who", "action", "target", "result", "details"), rows)
