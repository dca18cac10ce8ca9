"""The MCP server of a running service, with the official client."""

import asyncio
from typing import Any

import httpx
from mcp import Client

from tests.service import LONG, Service

_SMALL: dict[str, Any] = {"prompt": "a red circle moving right", "size": "64x64", "steps": 2}


async def _call(client: Client, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments, **options)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return dict(result.structured_content)


def test_an_agent_makes_a_video_and_cancels_another(service: Service) -> None:
    progress: list[float] = []
    links: dict[str, str] = {}

    async def note(value: float, total: float | None, message: str | None) -> None:
        progress.append(value)

    async def use() -> None:
        async with Client(f"{service.url}/mcp") as client:
            assert "create_video" in {tool.name for tool in (await client.list_tools()).tools}
            created = await _call(client, "create_video", _SMALL | {"options": {"num_frames": 5}})
            video = {"video_id": created["video_id"]}
            waited = await _call(client, "wait_for_video", video | {"timeout_seconds": 120}, progress_callback=note)
            assert (waited["status"], waited["progress"]) == ("completed", 100)
            assert progress == sorted(progress)
            assert progress
            links.update(await _call(client, "get_video_link", video))

            long = LONG | {"size": "128x128", "options": {"num_frames": 33}}
            del long["resolution"], long["num_frames"]
            other = await _call(client, "create_video", _SMALL | long)
            await _call(client, "cancel_video", {"video_id": other["video_id"]})
            ended = await _call(client, "wait_for_video", {"video_id": other["video_id"]})
            assert ended["status"] == "cancelled"
            listed = await _call(client, "list_videos", {"limit": 2})
            assert [job["video_id"] for job in listed["videos"]] == [other["video_id"], created["video_id"]]
            wrong = await client.call_tool("create_video", _SMALL | {"model": "sora"})
            assert wrong.is_error
            assert (wrong.structured_content or {})["error"]["code"] == "unknown_model"

    asyncio.run(use())
    assert links["video_url"].startswith(service.url)
    assert httpx.get(links["video_url"]).content[4:8] == b"ftyp"
    for name in ("download_url", "thumbnail_url", "last_frame_url"):
        assert httpx.get(links[name]).is_success
