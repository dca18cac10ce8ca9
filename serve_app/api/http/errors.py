"""Error responses: every error has the same body, and a status that matches its kind."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from wan22_bridge.errors import InvalidRequest, NotReady, Wan22Error

logger = logging.getLogger("ray.serve")

_STATUS = {
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "not_found": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "capacity": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_loading": HTTPStatus.SERVICE_UNAVAILABLE,
}
_STATUS_OF_CODE = {
    "payload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "video_timeout": HTTPStatus.GATEWAY_TIMEOUT,
}
_WITHOUT_VALUE = ("missing", "json_invalid", "value_error")
"""Pydantic's types of errors that have no invalid value, or whose message names it already."""


def add_error_handlers(app: FastAPI) -> None:
    """Registers handlers that give every error the same body, including the framework's own errors."""
    app.add_exception_handler(Wan22Error, _respond_to_known)
    app.add_exception_handler(RequestValidationError, _respond_to_invalid)
    app.add_exception_handler(HTTPException, _respond_to_http)
    app.add_exception_handler(SQLAlchemyError, _respond_to_database)
    app.add_exception_handler(Exception, _respond_to_unexpected)


def invalid_fields(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """Converts a validation error into an error that names the first invalid field."""
    item = error.errors()[0]
    names = [str(part) for part in item["loc"] if part not in ("body", "query", "path")]
    param = ".".join(names) or None
    if item["type"] == "extra_forbidden":
        return InvalidRequest(
            f"Unknown field {param!r:.80}.",
            code="unknown_field",
            param=param,
            suggestions=["Leave the field out. /docs lists all fields."],
        )
    value = "" if item["type"] in _WITHOUT_VALUE else f", got {item['input']!r:.80}"
    return InvalidRequest(f"{param}: {item['msg']}{value}.", code="invalid_value", param=param)


def respond_to_error(error: Wan22Error, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Returns the response for an error, with further headers."""
    status = _STATUS_OF_CODE.get(error.code) or _STATUS.get(error.category, HTTPStatus.INTERNAL_SERVER_ERROR)
    return _respond(status, error.to_dict(), headers)


def _respond(status: int, inner: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    extra = {"x-should-retry": "false"} if status == HTTPStatus.CONFLICT and not inner["can_retry"] else {}
    return JSONResponse(
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
    phrase = HTTPStatus(error.status_code).phrase
    inner = Wan22Error(str(error.detail), code=phrase.lower().replace(" ", "_")).to_dict()
    inner["type"] = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "invalid_request"
    if error.status_code == HTTPStatus.NOT_FOUND:
        inner["message"] = f"Unknown path {request.url.path[:120]}."
        inner["suggestions"] = ["/docs lists all routes."]
    return _respond(error.status_code, inner, error.headers)


async def _respond_to_database(request: Request, error: Exception) -> JSONResponse:
    logger.error("A database query failed", exc_info=error, extra={"action": "store_failed"})
    return await _respond_to_known(request, NotReady("The database can't be reached.", code="database_unavailable"))


async def _respond_to_unexpected(request: Request, error: Exception) -> JSONResponse:
    """Logs an unexpected error. The response gives no details, because they might reveal internals."""
    logger.error("Request failed", exc_info=error, extra={"action": "request_failed", "path": request.url.path})
    inner = Wan22Error("The service failed unexpectedly. Its log has the details.", can_retry=True).to_dict()
    return _respond(HTTPStatus.INTERNAL_SERVER_ERROR, inner)
