"""The ASGI application."""

from typing import Any

from anyio import to_thread
from fastapi import Depends, FastAPI, Response

from infinitetalk.core.telemetry import switch_off
from infinitetalk.core.units import GIB
from infinitetalk.core.version import own_version
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.server.answers import ErrorAnswer, HealthAnswer
from infinitetalk.server.failures import RefusedError, add_handlers
from infinitetalk.server.guard import Guard
from infinitetalk.server.metrics import CONTENT_TYPE, Metrics
from infinitetalk.server.routes import ROUTER, Routes, user_of_request
from infinitetalk.server.schema import request_body
from infinitetalk.server.settings import ServerSettings

SAYS = "Talking videos of any length from a portrait or a video and a voice."


def create_app(queue: JobQueue, settings: ServerSettings, metrics: Metrics | None = None) -> FastAPI:
    """The application in front of a queue, which the caller opens and closes.

    Args:
        queue: takes the jobs.
        settings: who may use it, and for what.
        metrics: those that observe the queue.
    """
    switch_off()
    metrics = metrics or Metrics()
    metrics.watch(queue.store)
    # The usual pages of documentation would be loaded from elsewhere.
    app = FastAPI(
        title="InfiniteTalk", version=own_version(), description=SAYS, docs_url=None, redoc_url=None,
        separate_input_output_schemas=False,
    )  # fmt: skip
    add_handlers(app)
    app.state.routes = Routes(queue, settings)
    app.include_router(ROUTER)
    _add_health(app, queue, metrics)
    app.add_middleware(Guard, most=settings.limits.upload_bytes, seen=metrics.seen)
    _describe(app, tuple(settings.models))
    return app


def _describe(app: FastAPI, models: tuple[str, ...]) -> None:
    """Adds the schema of a request, which FastAPI cannot know, to OpenAPI."""
    usual = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            usual()["paths"]["/v1/jobs"]["post"]["requestBody"] = request_body(models)
        return usual()

    app.openapi = described  # type: ignore[method-assign]


def _add_health(app: FastAPI, queue: JobQueue, metrics: Metrics) -> None:
    @app.get("/healthz", operation_id="health", summary="Whether the process answers", tags=["service"])
    async def health() -> HealthAnswer:
        return HealthAnswer(status="ok")

    @app.get(
        "/readyz",
        operation_id="ready",
        summary="Whether jobs are taken and made",
        tags=["service"],
        responses={503: {"model": ErrorAnswer, "description": "they are not"}},
    )
    async def ready() -> HealthAnswer:
        why = await to_thread.run_sync(_not_ready, queue)
        if why is not None:
            raise RefusedError(503, why, {"Retry-After": "10"})
        return HealthAnswer(status="ok")

    @app.get(
        "/metrics",
        operation_id="metrics",
        summary="Prometheus metrics",
        tags=["service"],
        response_class=Response,
        dependencies=[Depends(user_of_request)],
        responses={
            200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
            401: {"model": ErrorAnswer, "description": "no valid token"},
            429: {"model": ErrorAnswer, "description": "too many requests"},
        },
    )
    async def show_metrics() -> Response:
        return Response(await to_thread.run_sync(metrics.text), media_type=CONTENT_TYPE)


def _not_ready(queue: JobQueue) -> str | None:
    """Why no job can be taken now; None if one can."""
    import shutil

    if queue.failure is not None:
        return f"{queue.failure}; look at the server's log"
    free = shutil.disk_usage(queue.folder).free / GIB
    return f"the disk is full ({free:.1f} GiB free); delete old jobs" if free < queue.spare_disk else None
