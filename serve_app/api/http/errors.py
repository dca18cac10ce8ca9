"""Error responses: every error has the same body, and a status that matches its kind."""

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException

from deployments.jobs.database import is_disk_full
from wan22_bridge.errors import DiskFull, InvalidRequest, NotFound, NotReady, Wan22Error

logger = logging.getLogger("ray.serve")

_STATUS = {
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "authentication": HTTPStatus.UNAUTHORIZED,
    "permission": HTTPStatus.FORBIDDEN,
    "rate_limit": HTTPStatus.TOO_MANY_REQUESTS,
    "capacity": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_loading": HTTPStatus.SERVICE_UNAVAILABLE,
}
_STATUS_OF_CODE = {
    "payload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "host_not_allowed": HTTPStatus.MISDIRECTED_REQUEST,
    "origin_not_allowed": HTTPStatus.FORBIDDEN,
    "disk_full": HTTPStatus.INSUFFICIENT_STORAGE,
    "video_timeout": HTTPStatus.GATEWAY_TIMEOUT,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
}
_RETRY_AFTER_SECONDS = {
    "decoders_busy": 5,
    "downloads_busy": 5,
    "fetches_busy": 5,
    "streams_busy": 5,
    "uploads_busy": 5,
}
"""Seconds after which a client may repeat a request, by the error's code."""
_PATIENCE_SECONDS = 60
"""Longest `retry-after` for which clients wait."""
_CODE_OF_STATUS = {
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.PRECONDITION_FAILED: "precondition_failed",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range_not_satisfiable",
}
"""Codes of errors that HTTP defines. Other statuses have the code `invalid_request`."""
_MESSAGES = {
    HTTPStatus.METHOD_NOT_ALLOWED: "This path does not support the method. The header Allow lists those it supports.",
    HTTPStatus.PRECONDITION_FAILED: "The file does not have the entity tag that If-Match names.",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "The range is outside of the file. Content-Range has the file's size.",
}
_MAX_PARAM_CHARACTERS = 80
"""Length to which an error cuts the name of a field, which the client chose."""
_WITHOUT_VALUE = ("missing", "json_invalid", "value_error")
"""Pydantic's types of errors that have no invalid value, or whose message names it already."""


def add_error_handlers(app: FastAPI) -> None:
    """Registers handlers that give every error the same body, including the framework's own errors."""
    app.add_exception_handler(Wan22Error, _respond_to_known)
    app.add_exception_handler(RequestValidationError, _respond_to_invalid)
    app.add_exception_handler(HTTPException, _respond_to_http)
    app.add_exception_handler(SQLAlchemyError, _respond_to_database)
    app.add_exception_handler(Exception, _respond_to_unexpected)


def unexpected() -> Wan22Error:
    """Returns the error for all unexpected errors. It gives no details, because they might reveal internals."""
    return Wan22Error("The service failed unexpectedly. Its log has the details.", can_retry=True)


def invalid_fields(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """Converts a validation error into an error that names the first invalid field."""
    item = error.errors()[0]
    names = [str(part) for part in item["loc"] if part not in ("body", "query", "path")]
    param = ".".join(names)[:_MAX_PARAM_CHARACTERS] or None
    if item["type"] == "extra_forbidden":
        return InvalidRequest(
            f"Unknown field {param!r:.80}.",
            code="unknown_field",
            param=param,
            suggestions=["Leave the field out. /docs lists all fields."],
        )
    value = "" if item["type"] in _WITHOUT_VALUE else f", got {item['input']!r:.80}"
    return InvalidRequest(f"{param}: {item['msg']}{value}.", code="invalid_value", param=param)


def respond_to_status(status: HTTPStatus, headers: Mapping[str, str] | None = None, message: str = "") -> JSONResponse:
    """Returns the response for an error that HTTP defines, such as a method that a path does not allow."""
    category = "not_found" if status == HTTPStatus.NOT_FOUND else "invalid_request"
    inner = Wan22Error(_MESSAGES.get(status, message), code=_CODE_OF_STATUS.get(status, "invalid_request")).to_dict()
    return _respond(status, inner | {"type": category}, headers)


class _ErrorBody(JSONResponse):
    """A JSON response in ASCII, because an error may quote text that UTF-8 can't encode."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content).encode()


def respond_to_error(error: Wan22Error, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the response for an error, with further headers."""
    status = _STATUS_OF_CODE.get(error.code) or _STATUS.get(error.category, HTTPStatus.INTERNAL_SERVER_ERROR)
    seconds = error.retry_after_seconds or _RETRY_AFTER_SECONDS.get(error.code)
    extra = {} if seconds is None else {"retry-after": str(seconds)}
    if seconds is not None and seconds > _PATIENCE_SECONDS:
        extra["x-should-retry"] = "false"  # the `openai` package would retry sooner
    return _respond(status, error.to_dict(), {**(headers or {}), **extra})


def _respond(status: int, inner: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    extra = {"x-should-retry": "false"} if status == HTTPStatus.CONFLICT and not inner["can_retry"] else {}
    return _ErrorBody(
        {"error": inner, "detail": inner["message"]}, status_code=status, headers={**(headers or {}), **extra}
    )


async def _respond_to_known(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Wan22Error)
    return respond_to_error(error)


async def _respond_to_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await _respond_to_known(request, invalid_fields(error))


async def _respond_to_http(request: Request, error: Exception) -> JSONResponse:
    """Handles the framework's errors, such as an unknown route or a method that a route does not allow."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Wan22Error):  # of `BodyLimit`, while FastAPI read the body
        return await _respond_to_known(request, error.__cause__)
    if error.status_code == HTTPStatus.NOT_FOUND:
        unknown = NotFound(f"Unknown path {request.url.path[:120]}.", suggestions=["/docs lists all routes."])
        return await _respond_to_known(request, unknown)
    return respond_to_status(HTTPStatus(error.status_code), error.headers, str(error.detail))


async def _respond_to_database(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, DataError):  # PostgreSQL stores no text with NUL
        return await _respond_to_known(
            request,
            InvalidRequest("The request contains characters that can't be stored, such as NUL.", code="invalid_text"),
        )
    if isinstance(error, DBAPIError) and is_disk_full(error):
        logger.error("The disk of the database is full", extra={"action": "disk_full"})
        return await _respond_to_known(request, DiskFull("The disk of the service's database is full."))
    logger.error("A database query failed", exc_info=error, extra={"action": "store_failed"})
    return await _respond_to_known(request, NotReady("The database can't be reached.", code="database_unavailable"))


async def _respond_to_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Logs an unexpected error."""
    logger.error("Request failed", exc_info=error, extra={"action": "request_failed", "path": request.url.path})
    return _respond(HTTPStatus.INTERNAL_SERVER_ERROR, unexpected().to_dict())
