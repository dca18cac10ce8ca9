"""`wan22 webhooks`: lists, shows and replays the webhooks of a running service, and prints their secret."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.terminal import print_json, print_rows, reporting_errors, say

app = typer.Typer(no_args_is_help=True, help="List and replay the webhooks of a running service.")

_WebhookId = Annotated[str, typer.Argument(metavar="ID", help="The webhook's id; see `wan22 webhooks list`.")]


class _Status(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@app.command("list")
def list_webhooks(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Maximum number of webhooks to list.")] = 20,
    status: Annotated[_Status | None, typer.Option(help="List only webhooks with this status.")] = None,
    job: Annotated[str | None, typer.Option(help="List only the webhooks of the job with this id.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """List the newest webhooks, one for each ended job and receiver."""
    with reporting_errors(), Client(url, api_key) as client:
        webhooks = client.webhooks(limit=limit, status=None if status is None else status.value, task_id=job)
    if as_json:
        print_json(webhooks)
        return
    rows = [
        (webhook["id"], webhook["status"], webhook["attempts"], webhook["type"], webhook["task_id"], _describe(webhook))
        for webhook in webhooks
    ]
    print_rows(("webhook", "status", "attempts", "type", "job", "receiver"), rows)


@app.command()
def show(webhook_id: _WebhookId, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Print a webhook with its payload as JSON."""
    with reporting_errors(), Client(url, api_key) as client:
        print_json(client.webhook(webhook_id))


@app.command()
def replay(webhook_id: _WebhookId, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Deliver a webhook again at once, with the same id and payload."""
    with reporting_errors(), Client(url, api_key) as client:
        say(f"The webhook is {client.replay_webhook(webhook_id)['status']}.")


@app.command()
def secret(url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """Print the secret with which receivers verify the webhooks. Keep it secret."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.webhook_secret())


def _describe(webhook: dict[str, Any]) -> str:
    error = webhook["last_error"]
    return f"{webhook['url']}: {error}" if error else str(webhook["url"])
