"""The MCP server's tools. Each is a thin layer over what the HTTP routes use."""

import asyncio
import contextlib
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context, MCPServer
from mcp.types import ToolAnnotations
from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from deployments.jobs.inputs import InputUrl
from deployments.jobs.job import Job, JobState
from deployments.jobs.waiting import stream_keys
from serve_app.api.access.links import DEFAULT_SECONDS, LinkedFile
from serve_app.api.access.meter import meter_of
from serve_app.api.agents.access import caller_of, request_of
from serve_app.api.agents.inputs import read_input
from serve_app.api.agents.schemas import VideoJob, VideoJobs, VideoLink
from serve_app.api.http.bodies import Body
from serve_app.api.http.proxies import prefixed
from serve_app.api.live.feed import Feed
from serve_app.api.openai.bodies import submit_openai_body
from serve_app.api.schemas.served_models import Model
from serve_app.api.services import Services
from serve_app.api.submission import run_submission

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_MAX_WAIT_SECONDS = 600
_INPUT_NAMES = {"image_path": "image", "end_image_path": "end_image", "video_path": "video"}
"""The tools' names of the inputs, by the native API's."""

VideoId = Annotated[str, Field(description="The video_id that create_video or list_videos returned.")]


def _input(purpose: str) -> Any:
    return Field(
        description=(
            f"{purpose} The id of an upload (POST /api/v1/uploads), or the file itself in base64 or as a data: URL. "
            "An https URL works only if the operator allows it."
        )
    )


def add_tools(server: MCPServer[Any], services: Services, feed: Feed) -> None:
    """Adds all tools to a server."""
    store = services.store

    @server.tool(title="Make a video", annotations=ToolAnnotations(destructive_hint=False, open_world_hint=False))
    async def create_video(
        context: Context[Any, Request],
        prompt: Annotated[str, Field(description="Text that describes the video, 1 to 2000 characters.")],
        model: Annotated[
            str,
            Field(
                description=(
                    "A model's id or type, see list_models. auto chooses image-to-video if there is an image, else "
                    "text-to-video."
                )
            ),
        ] = "auto",
        image: Annotated[
            str | None,
            _input("First frame: PNG, JPEG or WebP. An mp4, or the video_id of a completed video, is continued."),
        ] = None,
        end_image: Annotated[str | None, _input("Last frame: PNG, JPEG or WebP.")] = None,
        video: Annotated[str | None, _input("Input of video-to-video: an mp4, or the video_id of a video.")] = None,
        size: Annotated[
            str | None, Field(description="WIDTHxHEIGHT in pixels. By default the model's own, or the input's shape.")
        ] = None,
        seconds: Annotated[
            float | None, Field(gt=0, description="Length of the video. By default the model's own.")
        ] = None,
        steps: Annotated[
            int | None, Field(ge=1, le=100, description="Number of denoising steps. By default the model's own.")
        ] = None,
        seed: Annotated[
            int | None, Field(description="Seed of the random noise. By default the service draws one.")
        ] = None,
        preset: Annotated[
            str | None, Field(description="Name of one of the model's presets, such as lightning for four steps.")
        ] = None,
        options: Annotated[
            dict[str, Any] | None,
            Field(
                description=(
                    "Any other fields of POST /api/v1/generation/submit, such as num_frames, fps, guidance_scale, "
                    "loras, priority, or the text of a negative prompt. A call makes one video, so num_outputs and "
                    "seeds are not among them."
                )
            ),
        ] = None,
    ) -> VideoJob:
        """Submits a job that makes a video, and returns it at once, before the video exists.

        Follow it with wait_for_video or get_video. The job is stored durably and continues if you disconnect.
        """
        given = {
            "prompt": prompt,
            "model": model,
            "size": size,
            "seconds": seconds,
            "steps": steps,
            "seed": seed,
            "preset": preset,
        }
        fields = dict(options or {}) | {name: value for name, value in given.items() if value is not None}
        names, files = await run_in_threadpool(_read_inputs, image=image, end_image=end_image, video=video)
        body, caller = Body(fields | names, files), caller_of(context)
        [job] = await run_submission(submit_openai_body, services, caller, body, None, _INPUT_NAMES, only_one=True)
        return await run_in_threadpool(_describe, job)

    @server.tool(title="Read a video's status", annotations=_READS)
    def get_video(video_id: VideoId, context: Context[Any, Request]) -> VideoJob:
        """Returns a job's status and progress at once. Use wait_for_video to wait for its end."""
        return _describe(store.reader.get(video_id, owner=caller_of(context).only))

    @server.tool(title="Wait for a video", annotations=_READS)
    async def wait_for_video(
        video_id: VideoId,
        context: Context[Any, Request],
        timeout_seconds: Annotated[
            float, Field(ge=0, le=_MAX_WAIT_SECONDS, description="Longest time to wait before returning.")
        ] = 50,
    ) -> VideoJob:
        """Waits until a job has ended or the timeout is over, and returns the job as it is then.

        If the status is still pending or processing, call this again. Progress is reported meanwhile to clients that
        ask for it.
        """
        owner = caller_of(context).only
        request = request_of(context)
        with meter_of(request).open(request.scope, "open_streams"), services.streams.hold():
            async with feed.subscribe(owner) as subscription:
                job = await run_in_threadpool(store.reader.get, video_id, owner=owner)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_seconds):
                        while not job.state.ended and not subscription.lagging:
                            await context.report_progress(job.progress, 100, job.stage)
                            await subscription.next_event(stream_keys(job))
                            job = await run_in_threadpool(store.reader.get, video_id, owner=owner)
        return await run_in_threadpool(_describe, job)

    @server.tool(
        title="Cancel a video",
        annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=True, open_world_hint=False),
    )
    def cancel_video(video_id: VideoId, context: Context[Any, Request]) -> VideoJob:
        """Cancels a job: a pending job at once, a running job within one denoising step."""
        caller = caller_of(context)
        job = store.writer.request_cancel(video_id, owner=caller.only)
        if job.owner != caller.owner:
            store.audit.record(caller.actor, "cancel_video", job.id, details={"owner": job.owner})
        return _describe(job)

    @server.tool(title="List videos", annotations=_READS)
    def list_videos(
        context: Context[Any, Request],
        status: Annotated[
            Literal["pending", "processing", "completed", "failed", "cancelled"] | None,
            Field(description="Return only jobs with this status."),
        ] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="Largest number of jobs to return.")] = 20,
        after: Annotated[str | None, Field(description="The last video_id of the previous page.")] = None,
    ) -> VideoJobs:
        """Returns jobs, newest first, in all states unless `status` is given."""
        states = [JobState(status)] if status else []
        found = store.reader.page(states=states, after=after, limit=limit + 1, owner=caller_of(context).only)
        positions = store.queue.positions(found[:limit])
        page = [VideoJob.of(job, queue_position=positions.get(job.id)) for job in found[:limit]]
        return VideoJobs(videos=page, has_more=len(found) > limit)

    @server.tool(title="List models", annotations=_READS)
    def list_models() -> list[Model]:
        """Returns the models with what each takes, its sizes, its longest video, its defaults and its presets."""
        return [Model.of(spec) for spec in services.served]

    @server.tool(title="Get a video's link", annotations=_READS)
    def get_video_link(video_id: VideoId, context: Context[Any, Request]) -> VideoLink:
        """Returns the addresses of a completed video's mp4, thumbnail and last frame.

        If the service needs API keys, the addresses need none for an hour.
        """
        job = services.store.reader.completed(video_id, owner=caller_of(context).only)
        request = context.request_context.request
        base = str(request.base_url).rstrip("/") if request is not None else ""

        def address(file: LinkedFile) -> str:
            path = f"/api/v1/outputs/{job.id}/{file}"
            return base + prefixed(services.links.sign(path, DEFAULT_SECONDS)[0] if services.needs_keys else path)

        return VideoLink(
            video_url=address("video"),
            download_url=address("download"),
            thumbnail_url=address("thumbnail"),
            last_frame_url=address("last_frame"),
            is_mock=job.params.is_mock,
        )

    def _describe(job: Job) -> VideoJob:
        return VideoJob.of(job, queue_position=store.queue.positions([job]).get(job.id))


def _read_inputs(**inputs: str | None) -> tuple[dict[str, str], dict[str, bytes]]:
    """Returns the names of uploads and videos, and URLs, by the native API's fields, and the other inputs' contents."""
    names, files = dict[str, str](), dict[str, bytes]()
    for name, value in inputs.items():
        found = read_input(value, name) if value else None
        if isinstance(found, bytes):
            files[name] = found
        elif isinstance(found, InputUrl):
            names[name] = found.url
        elif found is not None:
            names[f"{name}_path"] = found
    return names, files
