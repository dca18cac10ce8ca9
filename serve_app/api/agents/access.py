"""Callers of the MCP server's tools, and the scope that each tool needs."""

from typing import Any, cast

from mcp.server.mcpserver import Context
from starlette.requests import Request

from deployments.jobs.api_keys import Scope
from serve_app.api.access.callers import Caller

SCOPES = {
    "create_video": Scope.SUBMIT,
    "get_video": Scope.READ,
    "wait_for_video": Scope.READ,
    "cancel_video": Scope.SUBMIT,
    "list_videos": Scope.READ,
    "list_models": Scope.READ,
    "get_video_link": Scope.READ,
}
"""Scope that each tool needs."""


def request_of(context: Context[Any, Any]) -> Request:
    """Returns the request that calls a tool."""
    return cast(Request, context.request_context.request)


def caller_of(context: Context[Any, Any]) -> Caller:
    """Returns the caller whom `Authentication` has found for the request that calls a tool."""
    return cast(Caller, request_of(context).state.caller)


def check_scope(context: Context[Any, Any], tool: str) -> None:
    """Checks that a caller may call a tool.

    Raises:
        Forbidden: the caller lacks the tool's scope.
    """
    caller_of(context).require(SCOPES.get(tool, Scope.ADMIN))
