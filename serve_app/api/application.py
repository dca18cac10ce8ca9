"""The FastAPI application, assembled from its routes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import version
from types import ModuleType

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from serve_app.api import operations
from serve_app.api.access.auditing import Audit, Auditing
from serve_app.api.access.authentication import Authentication, Authenticator
from serve_app.api.access.callers import find_scope
from serve_app.api.access.limiting import RequestLimits
from serve_app.api.access.meter import Meter
from serve_app.api.access.ring import KeyRing
from serve_app.api.access.sessions import Sessions
from serve_app.api.agents.server import AgentServer
from serve_app.api.http.bodies import BodyLimit
from serve_app.api.http.browsers import BrowserGuard
from serve_app.api.http.document import complete_document
from serve_app.api.http.errors import add_error_handlers
from serve_app.api.http.methods import Methods
from serve_app.api.http.proxies import ReverseProxies
from serve_app.api.http.slow_clients import SlowClients
from serve_app.api.live import events, sockets
from serve_app.api.live.feed import Feed
from serve_app.api.live.reports import Reports
from serve_app.api.native import (
    audit,
    batches,
    generation,
    generation_mode,
    keys,
    loras,
    models,
    optimization,
    outputs,
    prompts,
    queue,
    sessions,
    system,
    uploads,
    usage,
    webhooks,
)
from serve_app.api.openai import remakes, videos, waiting
from serve_app.api.page import add_page
from serve_app.api.services import Services

_READABLE_HEADERS = (
    "accept-ranges",
    "content-disposition",
    "content-length",
    "content-range",
    "etag",
    "openai-poll-after-ms",
    "retry-after",
    "x-should-retry",
)
"""Headers of responses that the scripts of pages from other origins may read."""


def make_api(services: Services) -> FastAPI:
    """Returns the application for open services, which it closes when it shuts down."""
    feed = Feed(services.store)
    reports = Reports(services, feed)
    agents = AgentServer(services, feed)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with feed.running(), reports.running(), agents.running():
            yield
        services.store.database.close()

    app = FastAPIOffline(
        title="wan22-serve",
        version=version("wan22-serve"),
        description="Wan2.2 video generation: a native API, and an API that is compatible with OpenAI's clients.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.services = services
    settings = services.settings
    ring = KeyRing(services.store.keys) if services.needs_keys else None
    app.state.audit = Audit(services.store)
    app.add_middleware(Auditing, audit=app.state.audit)
    app.state.meter = Meter(settings.limits, settings.ingress_replicas)
    app.add_middleware(RequestLimits, meter=app.state.meter)
    app.state.authenticator = authenticator = Authenticator(ring, Sessions(services.links))
    app.add_middleware(Authentication, authenticator=authenticator, links=services.links, limits=settings.limits)
    app.state.feed = feed
    app.state.reports = reports
    app.add_middleware(
        BodyLimit,
        max_bytes=int(settings.max_upload_mb * 1e6),
        max_bytes_of_path={
            loras.UPLOAD_PATH: int(settings.max_lora_upload_mb * 1e6),
            sessions.PATH: sessions.MAX_BODY_BYTES,
        },
    )
    app.add_middleware(SlowClients, paths_on_disk=(loras.UPLOAD_PATH,), small_paths=(sessions.PATH,))
    _add_manners(app, services)
    add_error_handlers(app)
    native = (
        generation,
        batches,
        generation_mode,
        optimization,
        system,
        uploads,
        usage,
        queue,
        outputs,
        models,
        loras,
        prompts,
        webhooks,
        audit,
        keys,
        sessions,
    )
    app.router.routes.extend(_join(*native, videos, remakes, waiting, events, sockets, operations))

    agents.mount(app)

    add_page(app)
    complete_document(app, find_scope if services.needs_keys else None)
    return app


@cache
def _join(*modules: ModuleType) -> Sequence[BaseRoute]:
    """Returns the routes of several modules. All applications of a process share them, with their parsed signatures.

    FastAPI parses the signatures of all routes, which takes longer than the rest of an application, once for each
    inclusion of a router.
    """
    joined = APIRouter()
    for module in modules:
        joined.include_router(module.router)
    return joined.routes


def _add_manners(app: FastAPI, services: Services) -> None:
    """Adds the middleware that every route shares. The middleware that is added last sees a request first."""
    settings = services.settings
    app.add_middleware(Methods, routes=app.routes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=_READABLE_HEADERS,
        )
    # A page that another site has rebound to this service has no key.
    hosts = None if services.needs_keys else settings.allowed_hosts
    app.add_middleware(BrowserGuard, allowed_hosts=hosts, origins=settings.cors_origins)
    app.add_middleware(ReverseProxies, trusted=settings.trusted_proxies, root_path=settings.root_path)
