"""The OpenAPI document is valid, and describes every route completely."""

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from serve_app.api.application import make_api
from serve_app.settings import Settings

Node = dict[str, Any]

DOCUMENT: Node = make_api(cast(Any, SimpleNamespace(store=None, settings=Settings()))).openapi()
OPERATIONS = [
    (f"{method} {path}", operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]
each_operation = pytest.mark.parametrize(
    "operation", [operation for _, operation in OPERATIONS], ids=[name for name, _ in OPERATIONS]
)


def _resolve(node: Node) -> Node:
    """Returns the part of the document that a reference names, or the node itself."""
    found: Any = node
    if "$ref" in node:
        found = DOCUMENT
        for key in node["$ref"].removeprefix("#/").split("/"):
            found = found[key]
    return cast(Node, found)


def _media(operation: Node) -> Iterator[tuple[str, str, Node]]:
    """Yields status, media type and description of each body; the status of the request is empty."""
    for media_type, media in operation.get("requestBody", {}).get("content", {}).items():
        yield "", media_type, media
    for status, response in operation["responses"].items():
        for media_type, media in _resolve(response).get("content", {}).items():
            yield status, media_type, media


def _validator(schema: Node) -> Draft202012Validator:
    return Draft202012Validator({"$schema": Draft202012Validator.META_SCHEMA["$id"], **DOCUMENT, **schema})


def test_the_document_is_valid_and_its_references_can_be_resolved() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    assert "$defs" not in str(DOCUMENT["paths"])


def test_limits_are_keywords_of_json_schema() -> None:
    """Pydantic writes its own words, such as `ge`, for a limit that it can't translate. Clients ignore those."""
    assert re.findall(r"'(ge|gt|le|lt|multiple_of|min_length|max_length)': (?!\{)", str(DOCUMENT)) == []


def test_operations_have_unique_names() -> None:
    names = [operation["operationId"] for _, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert [name for name in names if re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name) is None] == []


@each_operation
def test_an_operation_describes_itself_and_its_parameters(operation: Node) -> None:
    assert operation.get("description")
    assert operation.get("tags")
    for parameter in operation.get("parameters", []):
        assert parameter.get("description"), parameter["name"]
        if parameter.get("required"):
            assert "example" in parameter or "examples" in parameter, parameter["name"]


@each_operation
def test_an_operation_declares_its_errors_with_the_common_body(operation: Node) -> None:
    expected = {"421", "500", "503"}
    if "requestBody" in operation or operation.get("parameters"):
        expected |= {"400", "404"}
    if "requestBody" in operation:
        expected |= {"409", "413"}
    assert expected <= set(operation["responses"])
    assert "422" not in operation["responses"]
    for status, media_type, media in _media(operation):
        if status >= "400":
            assert (media_type, media["schema"]) == ("application/json", {"$ref": "#/components/schemas/Error"})


@each_operation
def test_the_examples_of_an_operation_match_its_schemas(operation: Node) -> None:
    for status, media_type, media in _media(operation):
        assert media["schema"], (status, media_type)
        if media_type == "application/json":
            assert "example" in media or "examples" in media, status
        if "example" in media:
            errors = [error.message for error in _validator(media["schema"]).iter_errors(media["example"])]
            assert errors == [], (status, media_type)


@each_operation
def test_an_operation_declares_what_it_returns(operation: Node) -> None:
    success = [_resolve(response) for status, response in operation["responses"].items() if status[0] == "2"]
    assert success
    assert all(response.get("content") for response in success)


def test_a_body_with_a_prompt_must_not_be_blank() -> None:
    prompts = [
        media["schema"]["properties"]["prompt"]
        for _, operation in OPERATIONS
        for status, _, media in _media(operation)
        if not status and "prompt" in media["schema"].get("properties", {})
    ]
    assert len(prompts) >= 5
    for schema in prompts:
        assert (schema["minLength"], schema["maxLength"]) == (1, 2000)
        for text, valid in (("a cat", True), ("", False), (" \n", False), ("a\x00cat", False), ("x" * 2001, False)):
            assert _validator(schema).is_valid(text) is valid, text


@pytest.mark.parametrize("path", ["/api/v1/generation/submit", "/api/v1/generation/estimate", "/v1/videos"])
@pytest.mark.parametrize(
    ("fields", "valid"),
    [
        ({"prompt": "a"}, True),
        ({"prompt": "a", "segments": []}, True),
        ({"segments": [{"prompt": "a"}, {"prompt": "b"}]}, True),
        ({}, False),
        ({"segments": []}, False),
        ({"segments": [{"prompt": "a"}]}, False),
        ({"segments": [{"prompt": "a"}, {"prompt": " "}]}, False),
    ],
    ids=str,
)
def test_a_submission_has_a_prompt_or_segments(path: str, fields: Node, valid: bool) -> None:
    content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
    for media in content.values():
        assert _validator(media["schema"]).is_valid(fields) is valid
        assert media["schema"]["properties"].keys() >= {"prompt", "segments"}, "generated clients read these"
        assert "anyOf" not in media["schema"]
