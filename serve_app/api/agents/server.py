"""The MCP server at /mcp, over streamable HTTP.

It keeps no sessions, so that each request may reach another replica of the ingress.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, InputRequiredResult, TextContent, Tool
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.routing import Route

from serve_app.api.agents.access import check_scope
from serve_app.api.agents.tools import add_tools
from serve_app.api.http.errors import invalid_fields, unexpected
from serve_app.api.live.feed import Feed
from serve_app.api.services import Services
from wan22_bridge.errors import InvalidRequest, NotReady, Wan22Error

logger = logging.getLogger("ray.serve")

_INSTRUCTIONS = """Generates videos with Wan2.2 from a prompt, and from images or other videos.
Call list_models for the models with their sizes and lengths, create_video to submit a job, wait_for_video until it has
ended, and get_video_link for the address of the mp4. A job takes from seconds to many minutes, and continues if you
stop waiting. If is_mock is true, the service is in mock mode: the video is a placeholder that shows the word MOCK."""


class AgentServer:
    """Serves the MCP protocol at /mcp."""

    def __init__(self, services: Services, feed: Feed) -> None:
        server = _Server(
            lambda: add_tools(server, services, feed),
            "wan22-serve",
            title="Wan2.2 video generation",
            instructions=_INSTRUCTIONS,
            version=version("wan22-serve"),
            log_level="WARNING",
            subscriptions=False,
        )
        server.streamable_http_app(
            stateless_http=True,
            # BrowserGuard checks the host and the origin of each request, as for all routes.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=int(services.settings.max_upload_mb * 1e6),
        )
        self._sessions = server.session_manager

    def mount(self, app: FastAPI) -> None:
        """Adds the route /mcp to the application."""
        app.router.routes.append(Route("/mcp", StreamableHTTPASGIApp(self._sessions), include_in_schema=False))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Handles requests while the context is open. It can be opened only once."""
        async with self._sessions.run():
            yield


class _Server(MCPServer[Any]):
    """Reports the service's errors as results of the tools, in the words of the HTTP API.

    The tools are added at the first request, because `mcp` takes as long to read their signatures as the rest of the
    application takes to be assembled, and few services have agents as clients.
    """

    def __init__(self, add_tools: Callable[[], None], name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self._add_tools = cache(add_tools)

    async def list_tools(self) -> list[Tool]:
        """Returns all tools. Calls of tools come here, too."""
        self._add_tools()
        return await super().list_tools()

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Calls a tool. An error of the service becomes a result with `isError` and the error's object."""
        try:
            assert context is not None, "only requests over HTTP call tools"
            check_scope(context, name)
            await self._check_names(name, arguments)
            return await super().call_tool(name, arguments, context)
        except Wan22Error as exc:
            return _describe(exc)
        except ToolError as exc:
            cause = exc.__cause__
            if isinstance(cause, ValidationError):
                cause = invalid_fields(cause)
            elif isinstance(cause, SQLAlchemyError):
                cause = NotReady("The database can't be reached.", code="database_unavailable")
            if cause is None:
                raise
            if not isinstance(cause, Wan22Error):
                logger.error("A tool failed", exc_info=cause, extra={"action": "tool_failed", "tool": name})
                cause = unexpected()
            return _describe(cause)

    async def _check_names(self, name: str, arguments: dict[str, Any]) -> None:
        """Rejects an unknown argument, which the `mcp` package would ignore.

        Raises:
            InvalidRequest: the tool has no such argument.
        """
        for tool in await self.list_tools():
            known = tool.input_schema.get("properties", {})
            for argument in arguments if tool.name == name else ():
                if argument not in known:
                    others = ["Put other fields of the HTTP API into options."] if "options" in known else []
                    raise InvalidRequest(
                        f"{name} has no argument {argument!r:.80}.",
                        code="unknown_field",
                        param=argument,
                        suggestions=[f"Its arguments are: {', '.join(known)}.", *others],
                    )


def _describe(error: Wan22Error) -> CallToolResult:
    text = "\n".join([error.message, *error.suggestions])
    return CallToolResult(
        content=[TextContent(type="text", text=text)], structured_content={"error": error.to_dict()}, is_error=True
    )
