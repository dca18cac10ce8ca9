"""The OpenAPI document: what FastAPI derives from the routes, completed with what all routes share.

A route declares its own body, its responses and a docstring. This module adds the errors, the examples and the
descriptions of parameters, so that a new route has them too.
"""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts

from serve_app.api.http.examples import PARAMETERS, make_example

_METHODS = ("get", "post", "put", "patch", "delete")
_SCHEMAS = "#/components/schemas/"

_ERROR = {
    "title": "Error",
    "type": "object",
    "description": "Body of every error response.",
    "required": ["error", "detail"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "code", "message", "param", "suggestions", "can_retry"],
            "properties": {
                "type": {"type": "string", "description": "Kind of error, such as `invalid_request`."},
                "code": {"type": "string", "description": "Stable identifier for programs."},
                "message": {"type": "string"},
                "param": {"type": ["string", "null"], "description": "Name of the invalid field."},
                "suggestions": {"type": "array", "items": {"type": "string"}, "description": "Possible fixes."},
                "can_retry": {"type": "boolean", "description": "Whether the same request may succeed later."},
            },
        },
        "detail": {"type": "string", "description": "The same text as `error.message`."},
    },
}

_RESPONSES: dict[int, tuple[str, str, str]] = {
    400: ("The request is invalid.", "invalid_request", "invalid_value"),
    401: ("The request has no valid API key.", "authentication", "invalid_api_key"),
    403: (
        "The API key lacks the scope, or a web page of another origin sent the request.",
        "permission",
        "scope_missing",
    ),
    404: ("The path, or a resource that the request names, does not exist.", "not_found", "not_found"),
    409: ("The state of the resource does not allow the operation.", "conflict", "conflict"),
    412: ("The file does not have the entity tag that `If-Match` names.", "invalid_request", "precondition_failed"),
    413: ("The body is over the size limit.", "invalid_request", "payload_too_large"),
    416: ("The file has none of the bytes that `Range` names.", "invalid_request", "range_not_satisfiable"),
    421: ("The request names a host that is not the service's.", "invalid_request", "host_not_allowed"),
    429: (
        "The client has reached a limit. `retry-after` says when to try again.",
        "rate_limit",
        "limit_exceeded",
    ),
    500: ("The service failed unexpectedly.", "internal", "internal_error"),
    503: ("The service is temporarily unavailable.", "capacity", "not_ready"),
}
"""Description, type and code of the errors by their status."""


_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, as `wan22 keys create` prints it."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
"""The ways in which a request sends its key."""


def complete_document(app: FastAPI, find_scope: Callable[[RouteContext], str | None] | None = None) -> None:
    """Makes the application serve the completed document. Its routes may be added before or after the call.

    Args:
        app: the application.
        find_scope: returns the scope that a route needs, or None for a route that needs no key. Without it, the
            document mentions no keys.
    """
    derive = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = derive()
            _share_definitions(document)
            _name_operations(document, app)
            if find_scope is not None:
                _declare_scopes(document, app, find_scope)
            for method, operation in _operations(document):
                _add_errors(method, operation)
                _describe_parameters(operation)
                _add_examples(operation, document)
            _add_components(document)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in document["paths"].values():
        yield from ((method, operation) for method, operation in item.items() if method in _METHODS)


def _share_definitions(document: dict[str, Any]) -> None:
    """Moves the `$defs` of inline schemas to the components, because their references start at the document's root."""
    shared = document.setdefault("components", {}).setdefault("schemas", {})

    def visit(node: Any) -> Any:
        if isinstance(node, list):
            return [visit(item) for item in node]
        if not isinstance(node, dict):
            return node
        for name, definition in node.get("$defs", {}).items():
            shared.setdefault(name, visit(definition))
        found = {key: visit(value) for key, value in node.items() if key != "$defs"}
        if isinstance(reference := found.get("$ref"), str):
            found["$ref"] = reference.replace("#/$defs/", _SCHEMAS)
        return found

    document["paths"] = visit(document["paths"])
    for name in ("HTTPValidationError", "ValidationError"):
        shared.pop(name, None)


def _name_operations(document: dict[str, Any], app: FastAPI) -> None:
    """Gives each operation the name of its function as id, with the route's tag where functions share a name."""
    used: set[str] = set()
    for route in iter_route_contexts(app.routes):
        for method in sorted(getattr(route, "methods", None) or ()):
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is None:
                continue
            name = getattr(route, "operation_id", None) or str(route.name)
            if name in used:
                name = f"{name}_{operation.get('tags', ['other'])[0]}"
            if name not in used:
                operation["operationId"] = name
            used.add(operation["operationId"])


def _declare_scopes(document: dict[str, Any], app: FastAPI, find_scope: Callable[[RouteContext], str | None]) -> None:
    """Declares the ways to send a key, and for each operation the scope that the key needs."""
    document["components"]["securitySchemes"] = _KEYS
    for route in iter_route_contexts(app.routes):
        scope = find_scope(route)
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if scope is not None and operation is not None:
                operation["security"] = [{name: [scope]} for name in _KEYS]


def _add_errors(method: str, operation: dict[str, Any]) -> None:
    """Declares the errors with which an operation may end."""
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own status of invalid requests; this API responds 400
    parameters = operation.get("parameters", [])
    has_body = "requestBody" in operation
    statuses = [421, 429, 500, 503]
    if "security" in operation:
        statuses += [401, 403]
    if method != "get":
        statuses += [403]
    if parameters or has_body:
        statuses += [400, 404]
    if has_body or any(parameter["in"] == "path" for parameter in parameters):
        statuses += [409]
    if has_body:
        statuses += [413]
    for status in (*statuses, *(int(key) for key in responses if key.isdigit())):
        if status in _RESPONSES:
            responses[str(status)] = {"$ref": f"#/components/responses/{_component(status)}"}
    operation["responses"] = dict(sorted(responses.items()))


def _describe_parameters(operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        description, example = PARAMETERS.get(parameter["name"], (None, None))
        if description is not None:
            parameter.setdefault("description", description)
        if example is not None and "examples" not in parameter:
            parameter.setdefault("example", example)
        kinds = [kind for kind in parameter["schema"].get("anyOf", []) if kind.get("type") != "null"]
        if len(kinds) == 1:  # Parameters are text: an absent one is left out, and never null.
            del parameter["schema"]["anyOf"]
            parameter["schema"].update(kinds[0])


def _add_examples(operation: dict[str, Any], document: dict[str, Any]) -> None:
    """Adds an example to each body in JSON or a form, unless the route has its own."""
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        if "example" not in media and "examples" not in media:
            example = make_example(media["schema"], document["components"]["schemas"], is_request=True)
            if example or media_type == "application/json":
                media["example"] = example
    for response in operation["responses"].values():
        media = response.get("content", {}).get("application/json")
        if media is not None and "example" not in media and "examples" not in media:
            media["example"] = make_example(media.get("schema", {}), document["components"]["schemas"])


def _add_components(document: dict[str, Any]) -> None:
    components = document["components"]
    components["schemas"]["Error"] = _ERROR
    components["responses"] = {
        _component(status): {
            "description": description,
            "content": {
                "application/json": {
                    "schema": {"$ref": f"{_SCHEMAS}Error"},
                    "example": _error_example(kind, code, description),
                }
            },
        }
        for status, (description, kind, code) in _RESPONSES.items()
    }


def _error_example(kind: str, code: str, message: str) -> dict[str, Any]:
    inner: dict[str, Any] = {"type": kind, "code": code, "message": message, "param": None, "suggestions": []}
    return {"error": inner | {"can_retry": kind in ("capacity", "rate_limit")}, "detail": message}


def _component(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).name.split("_"))
