"""The MCP server, with the official client over HTTP, where no video is generated."""

import asyncio
import base64
import io
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from mcp import Client
from mcp.types import CallToolResult
from PIL import Image

from serve_app.api.application import make_api
from serve_app.api.services import Services
from tests.service import free_port, wait_until

_SMALL: dict[str, Any] = {
    "prompt": "a red circle moving right",
    "size": "64x64",
    "steps": 2,
    "options": {"num_frames": 5},
}


@pytest.fixture
def url(services: Services) -> Iterator[str]:
    """Serves the application on a port, and returns the address of its MCP server."""
    server = uvicorn.Server(uvicorn.Config(make_api(services), port=free_port(), log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    yield f"http://127.0.0.1:{server.config.port}/mcp"
    server.should_exit = True
    thread.join()


def _with_client(url: str, use: Callable[[Client], Awaitable[None]], mode: str = "auto") -> None:
    async def run() -> None:
        async with Client(url, mode=mode) as client:
            await use(client)

    asyncio.run(run())


def _value(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


def _error(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.structured_content is not None
    error: dict[str, Any] = result.structured_content["error"]
    return error


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_client_initializes_and_reads_described_tools(url: str, mode: str) -> None:
    async def use(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            "create_video",
            "get_video",
            "wait_for_video",
            "cancel_video",
            "list_videos",
            "list_models",
            "get_video_link",
        }
        for tool in tools.values():
            assert tool.title
            assert tool.description
            assert tool.output_schema
            assert all("description" in field for field in tool.input_schema.get("properties", {}).values())
        assert "mock mode" in (client.instructions or "")

    _with_client(url, use, mode)


def test_a_job_is_created_read_listed_and_cancelled(url: str) -> None:
    async def use(client: Client) -> None:
        created = _value(await client.call_tool("create_video", _SMALL))
        video_id = created["video_id"]
        assert (created["status"], created["size"], created["num_frames"]) == ("pending", "64x64", 5)
        assert created["queue_position"] == 1
        assert _value(await client.call_tool("get_video", {"video_id": video_id})) == created
        waited = await client.call_tool("wait_for_video", {"video_id": video_id, "timeout_seconds": 0.1})
        assert _value(waited)["status"] == "pending"
        other = _value(await client.call_tool("create_video", _SMALL))["video_id"]
        page = _value(await client.call_tool("list_videos", {"limit": 1}))
        assert ([job["video_id"] for job in page["videos"]], page["has_more"]) == ([other], True)
        assert _value(await client.call_tool("cancel_video", {"video_id": video_id}))["status"] == "cancelled"
        listed = _value(await client.call_tool("list_videos", {"status": "cancelled"}))
        assert [job["video_id"] for job in listed["videos"]] == [video_id]

    _with_client(url, use)


def test_a_waiting_client_gets_the_end_of_the_job(url: str, services: Services) -> None:
    async def use(client: Client) -> None:
        video_id = _value(await client.call_tool("create_video", _SMALL))["video_id"]
        waiting = asyncio.create_task(client.call_tool("wait_for_video", {"video_id": video_id}))
        await asyncio.to_thread(services.store.writer.request_cancel, video_id)
        assert _value(await waiting)["status"] == "cancelled"

    _with_client(url, use)


def test_the_models_are_described(url: str, services: Services) -> None:
    async def use(client: Client) -> None:
        models = _value(await client.call_tool("list_models"))["result"]
        assert [model["id"] for model in models] == [spec.id for spec in services.served]
        assert models[0]["sizes"]

    _with_client(url, use)


def _image() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(stream, "PNG")
    return stream.getvalue()


def test_an_image_may_be_base64_a_data_url_or_an_upload(url: str, services: Services) -> None:
    encoded = base64.b64encode(_image()).decode()
    upload = services.jobs.upload(_image()).key.rpartition("/")[2]

    async def use(client: Client) -> None:
        for image in (encoded, f"data:image/png;base64,{encoded}", encoded.rstrip("="), upload):
            created = _value(await client.call_tool("create_video", _SMALL | {"image": image}))
            params = services.store.reader.get(created["video_id"]).params
            assert (params.image or "").endswith(upload)

    _with_client(url, use)


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"prompt": " "}, "prompt_empty", "prompt"),
        ({"model": "sora"}, "unknown_model", "model"),
        ({"size": "big"}, "invalid_resolution", "size"),
        ({"steps": 0}, "invalid_value", "steps"),
        ({"seconds": -1}, "invalid_value", "seconds"),
        ({"options": {"stepz": 3}}, "unknown_field", "stepz"),
        ({"options": {"num_outputs": 2}}, "batch_not_supported", "num_outputs"),
        ({"options": {"seeds": [1, 2]}}, "batch_not_supported", "seeds"),
        ({"num_frames": 5}, "unknown_field", "num_frames"),
        ({"image": "https://example.com/cat.png"}, "invalid_input_reference", "image"),
        ({"image": "cat.png"}, "invalid_input", "image"),
        ({"image": "0" * 64}, "unknown_upload", "image"),
        ({"prompt": None}, "invalid_value", "prompt"),
    ],
)
def test_a_bad_argument_is_an_error_of_the_tool_that_names_it(
    url: str, services: Services, changes: dict[str, Any], code: str, param: str
) -> None:
    async def use(client: Client) -> None:
        result = await client.call_tool("create_video", _SMALL | changes)
        error = _error(result)
        assert (error["code"], error["param"]) == (code, param)
        text = getattr(result.content[0], "text", "")
        assert text.startswith(error["message"])
        assert all(suggestion in text for suggestion in error["suggestions"])
        assert services.store.reader.page() == []

    _with_client(url, use)


@pytest.mark.parametrize("tool", ["get_video", "wait_for_video", "cancel_video", "get_video_link"])
def test_an_unknown_video_is_an_error_of_the_tool(url: str, tool: str) -> None:
    async def use(client: Client) -> None:
        assert _error(await client.call_tool(tool, {"video_id": "video_none"}))["code"] == "job_not_found"

    _with_client(url, use)


def test_a_video_that_is_not_ready_has_no_link(url: str) -> None:
    async def use(client: Client) -> None:
        video_id = _value(await client.call_tool("create_video", _SMALL))["video_id"]
        assert _error(await client.call_tool("get_video_link", {"video_id": video_id}))["code"] == "video_not_ready"

    _with_client(url, use)
