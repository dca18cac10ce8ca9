"""Every error leaves as the one error body, with the right status."""

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
_STATUS_OF_CODE = {"payload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE}


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error of `app`, the framework's own included, leave as the one body."""
    app.add_exception_handler(Wan22Error, _answer_known)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(SQLAlchemyError, _answer_database)
    app.add_exception_handler(Exception, _answer_unforeseen)


def invalid_fields(error: ValidationError | RequestValidationError) -> InvalidRequest:
    """The first field at fault, as an error that names it."""
    item = error.errors()[0]
    names = [str(part) for part in item["loc"] if part not in ("body", "query", "path")]
    param = ".".join(names) or None
    if item["type"] == "extra_forbidden":
        return InvalidRequest(
            f"There is no field {param!r:.80}.",
            code="unknown_field",
            param=param,
            suggestions=["Leave it out. /docs lists the fields."],
        )
    return InvalidRequest(f"{param}: {item['msg']}.", code="invalid_value", param=param)


def _answer(status: int, inner: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    extra = {"x-should-retry": "false"} if status == HTTPStatus.CONFLICT and not inner["can_retry"] else {}
    return JSONResponse(
        {"error": inner, "detail": inner["message"]}, status_code=status, headers={**(headers or {}), **extra}
    )


async def _answer_known(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Wan22Error)
    status = _STATUS_OF_CODE.get(error.code) or _STATUS.get(error.category, HTTPStatus.INTERNAL_SERVER_ERROR)
    return _answer(status, error.to_dict())


async def _answer_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return await _answer_known(request, invalid_fields(error))


async def _answer_http(request: Request, error: Exception) -> JSONResponse:
    """The framework's own: no such route, a method that is not allowed, a body that can't be parsed."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    inner = Wan22Error(str(error.detail), code=phrase.lower().replace(" ", "_")).to_dict()
    inner["type"] = "not_found" if error.status_code == HTTPStatus.NOT_FOUND else "invalid_request"
    if error.status_code == HTTPStatus.NOT_FOUND:
        inner["message"] = f"There is nothing at {request.url.path[:120]}."
        inner["suggestions"] = ["/docs lists what there is."]
    return _answer(error.status_code, inner, error.headers)


async def _answer_database(request: Request, error: Exception) -> JSONResponse:
    logger.error("The store did not answer", exc_info=error, extra={"action": "store_failed"})
    return await _answer_known(request, NotReady("The database does not answer.", code="database_unavailable"))


async def _answer_unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Nothing of the inside leaves: the log has it."""
    logger.error("Request failed", exc_info=error, extra={"action": "request_failed", "path": request.url.path})
    inner = Wan22Error("Something went wrong inside the service. Its log tells more.", can_retry=True).to_dict()
    return _answer(HTTPStatus.INTERNAL_SERVER_ERROR, inner)
