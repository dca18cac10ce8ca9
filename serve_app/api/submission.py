"""Submission of a request's body: the part of the API that the native and the OpenAI-compatible routes share."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Concatenate

from fastapi import Depends, Header
from pydantic import ValidationError

from deployments.jobs.job import Job, Priority
from serve_app.api.access.callers import Caller, Submitting
from serve_app.api.fields.names import ALIASES, CONTAINERS, INPUTS, describe_aliases, find_field
from serve_app.api.fields.normalizing import Submission, normalize
from serve_app.api.fields.references import may_hold_address
from serve_app.api.http.bodies import Body
from serve_app.api.http.errors import invalid_fields
from serve_app.api.http.threads import run_to_end
from serve_app.api.schemas.submissions import SubmitRequest
from serve_app.api.schemas.texts import STORABLE
from serve_app.api.services import Arguments, Result, Services
from wan22_bridge.errors import InvalidRequest
from wan22_bridge.types import GenerationParams

_DECLARED = SubmitRequest.model_json_schema()
SUBMIT_SCHEMA = {key: value for key, value in _DECLARED.items() if key != "required"} | {
    # Inside `allOf`, because generators of clients turn a body with `anyOf` into a union without its fields.
    "allOf": [
        {
            "anyOf": [
                {"required": ["prompt"]},
                {"required": ["segments"], "properties": {"segments": {"type": "array", "minItems": 2}}},
            ]
        }
    ],
    "properties": describe_aliases(_DECLARED["properties"]) | _DECLARED["properties"],
    "description": (
        "A video to generate. Fields that are left out, or null, get the defaults of the preset, else of the model. "
        "Names may be in camelCase too. Forms send numbers, booleans and JSON as text; an empty text, `null` and "
        "`undefined` leave an optional field out."
    ),
}
SUBMIT_FILES = {
    name: {"type": "string", "format": "binary", "description": description}
    for name, description in {
        "image": "First frame: PNG, JPEG or WebP. With an mp4, the new video continues that video from its last frame.",
        "end_image": "Last frame: PNG, JPEG or WebP.",
        "video": "Input of video-to-video, an mp4. T2V-A14B and TI2V-5B support it.",
    }.items()
}


def describe_body(form: dict[str, Any], json: dict[str, Any] | None = None) -> dict[str, Any]:
    """Returns the OpenAPI description of a body that the route reads itself.

    Args:
        form: the JSON schema of a form.
        json: the JSON schema of a JSON body; by default the same as `form`.
    """
    content = {"multipart/form-data": {"schema": form}, "application/json": {"schema": json or form}}
    return {"requestBody": {"required": True, "content": content}}


def describe_form(form: dict[str, Any]) -> dict[str, Any]:
    """Returns the OpenAPI description of a body that is a multipart form only, because it holds a file."""
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


_MAY_HOLD_INPUTS = {*INPUTS, *(f"{name}_path" for name in INPUTS), *CONTAINERS} | {
    alias for alias, target in ALIASES.items() if target.removesuffix("_path") in INPUTS
}
"""Fields with inputs, or with further fields."""


async def _own_key(
    caller: Submitting, idempotency_key: Annotated[str | None, Header(max_length=255, pattern=STORABLE)] = None
) -> str | None:
    return caller.own_key(idempotency_key)


IdempotencyKey = Annotated[str | None, Depends(_own_key)]
"""Annotation of a route's argument that receives the `Idempotency-Key` of a request, as the database stores it."""


async def run_submission(
    call: Callable[Concatenate[Services, Caller, Body, Arguments], Result],
    serving: Services,
    caller: Caller,
    body: Body,
    *args: Arguments.args,
    **kwargs: Arguments.kwargs,
) -> Result:
    """Calls a function that submits a body in a thread: in one of the decoders' if the body may have inputs.

    Submissions without inputs need neither a decoder nor the storage, so a slow bucket does not delay them. Those that
    download an input have threads of their own, so that a slow server delays no uploads.
    """
    inputs = [body.fields[name] for name in body.fields if find_field(name.rpartition(".")[2]) in _MAY_HOLD_INPUTS]
    if serving.settings.fetch_urls and any(map(may_hold_address, inputs)):
        return await serving.use_downloads(call, serving, caller, body, *args, **kwargs)
    if body.files or inputs:
        return await serving.use_decoders(call, serving, caller, body, *args, **kwargs)
    return await run_to_end(partial(call, serving, caller, body, *args, **kwargs))


def submit_body(
    serving: Services,
    caller: Caller,
    body: Body,
    idempotency_key: str | None,
    *,
    names: Mapping[str, str] = MappingProxyType({}),
    replaced: Mapping[str, str] = MappingProxyType({}),
    only_one: bool = False,
) -> list[Job]:
    """Submits a body with the fields and files of any kind of client.

    Args:
        serving: the services.
        caller: the owner of the new jobs.
        body: the fields and files.
        idempotency_key: key of the request in its stored form; None if there is none.
        names: names for errors about fields that the client did not send, by the declared names. Errors name the others
            as the client did.
        replaced: the client's names of fields that the route moved, by the declared names.
        only_one: whether to reject a body that asks for several videos.

    Returns:
        The stored jobs, in the order of their seeds.

    Raises:
        InvalidRequest: a field is not valid; the error names it.
        JobNotFound: an input names a job that does not exist.
        Conflict: an input names a job that has no video yet.
        NotFound: an input names a job that ended without a video.
        IdempotencyConflict: the idempotency key was used with another request.
        LimitExceeded: the caller has reached a limit.
        QueueFull: the queue has too many pending jobs.
    """
    sent = normalize(body.fields, body.files)
    with sent.naming(names, replaced):
        submitted = _validate(sent)
        seeds = submitted.to_seeds()
        if only_one and len(seeds) > 1:
            raise InvalidRequest(
                f"This call makes one video, but the request asks for {len(seeds)}.",
                code="batch_not_supported",
                param="seeds" if submitted.seeds else "num_outputs",
                suggestions=["Ask for each video by itself.", "POST /v1/videos makes several videos at once."],
            )
        return serving.jobs.submit(
            submitted.to_request(),
            seeds=seeds,
            image=sent.files.get("image", submitted.image_path),
            end_image=sent.files.get("end_image", submitted.end_image_path),
            video=sent.files.get("video", submitted.video_path),
            priority=submitted.to_priority(),
            metadata=submitted.metadata,
            webhook_url=submitted.webhook_url,
            idempotency_key=idempotency_key,
            owner=caller.owner,
            only=caller.only,
            account=caller.account,
            # The request itself holds `seconds`. Without it here, keys of earlier versions stay valid.
            body=submitted.model_dump(mode="json", exclude_defaults=True, exclude={"seconds"}),
        )


def resolve_body(serving: Services, caller: Caller, body: Body) -> tuple[GenerationParams, Priority, int]:
    """Returns the parameters, the priority and the number of the jobs that a body would submit. Nothing is stored.

    The parameters are those of the first job. The other jobs differ in their seeds only.

    Raises:
        Wan22Error: as `submit_body` raises it.
    """
    sent = normalize(body.fields, body.files)
    with sent.naming({}, {}):
        submitted = _validate(sent)
        params = serving.jobs.resolve(
            submitted.to_request(),
            image=sent.files.get("image", submitted.image_path),
            end_image=sent.files.get("end_image", submitted.end_image_path),
            video=sent.files.get("video", submitted.video_path),
            webhook_url=submitted.webhook_url,
            only=caller.only,
            account=caller.account,
        )
        return params, submitted.to_priority(), len(submitted.to_seeds())


def _validate(sent: Submission) -> SubmitRequest:
    try:
        return SubmitRequest.model_validate(sent.fields)
    except ValidationError as exc:
        raise invalid_fields(exc) from exc
