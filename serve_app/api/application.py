"""The FastAPI application, assembled from its routes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline

from serve_app.api import operations
from serve_app.api.http.bodies import BodyLimit
from serve_app.api.http.errors import add_error_handlers
from serve_app.api.live import events
from serve_app.api.live.feed import Feed
from serve_app.api.native import generation, loras, models, outputs, prompts, queue, uploads
from serve_app.api.openai import remakes, videos
from serve_app.api.services import Services


def make_api(services: Services) -> FastAPI:
    """Returns the application for open services, which it closes when it shuts down."""
    feed = Feed(services.store)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with feed.running():
            yield
        services.store.database.close()

    app = FastAPIOffline(
        title="wan22-serve",
        version=version("wan22-serve"),
        description="Wan2.2 video generation: a native API, and an API that is compatible with OpenAI's clients.",
        lifespan=lifespan,
    )
    app.state.services = services
    app.state.feed = feed
    app.add_middleware(
        BodyLimit,
        max_bytes=int(services.settings.max_upload_mb * 1e6),
        max_bytes_of_path={loras.UPLOAD_PATH: int(services.settings.max_lora_upload_mb * 1e6)},
    )
    add_error_handlers(app)
    for module in (generation, uploads, queue, outputs, models, loras, prompts, videos, remakes, events, operations):
        app.include_router(module.router)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app
