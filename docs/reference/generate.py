"""Writes the reference pages http.md, cli.md and configuration.md from the code: `make reference`.

`python docs/reference/generate.py --check` writes nothing and fails when a page is stale. Neither form starts Ray.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from inspect import cleandoc, signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

from typer.main import get_command

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from deployments.autoscaling import FollowDemand
from serve_app.api.application import make_api
from serve_app.cli.main import app as command_line
from serve_app.settings import Settings
from wan22_bridge.catalogue import ModelSpec, load_catalogue

FOLDER = Path(__file__).parent
_NOTICE = "<!-- Generated from the code by `make reference`. Edit the docstrings and fields there, not this page. -->"
_METHODS = ("get", "post", "put", "patch", "delete")
_JSON_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}

_PYTHON_TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}

Schema = Mapping[str, Any]


def main() -> None:
    """Writes the pages, or with `--check` compares them."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a page is stale")
    check = parser.parse_args().check
    stale = list(find_stale_pages())
    if not check:
        for name in stale:
            (FOLDER / name).write_text(render_page(name), "utf-8")
            print(f"Wrote docs/reference/{name}")
    elif stale:
        raise SystemExit(f"Stale: {', '.join(stale)} in docs/reference. Run `make reference`.")


def find_stale_pages() -> Iterator[str]:
    """Yields the names of the pages that differ from what the code says."""
    for name in PAGES:
        path = FOLDER / name
        if not path.exists() or path.read_text("utf-8") != render_page(name):
            yield name


def render_page(name: str) -> str:
    """Returns the text of one page, which ends with a single newline."""
    return "\n".join([_NOTICE, "", *PAGES[name]()]).rstrip() + "\n"


def _render_http() -> Iterator[str]:
    """Renders the routes and the schemas of the OpenAPI document."""
    parts = cast(
        Any, SimpleNamespace(store=SimpleNamespace(keys=None), settings=Settings(), needs_keys=True, links=None)
    )
    document = _inline_choices(make_api(parts).openapi())
    yield from (
        "# HTTP reference",
        "",
        "The running service has the same information at `/docs` (interactive) and `/openapi.json` (for programs).",
        "[Events](events.md) describes the WebSocket and the Server-Sent Events. [Errors](errors.md) describes the one",
        "error body that all routes share. A field in **bold** is required in a request and present in every response.",
        "",
        "| route | purpose |",
        "|---|---|",
    )
    routes = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in _METHODS
    ]
    for path, method, operation in routes:
        yield f"| [`{method.upper()} {path}`](#{anchor(f'{method} {path}')}) | {_first_line(operation)} |"
    yield "\n## Routes"
    for path, method, operation in routes:
        yield from _render_route(path, method, operation)
    yield "\n## Schemas"
    for name, schema in sorted(document["components"]["schemas"].items()):
        if name not in ("HTTPValidationError", "ValidationError") and "enum" not in schema:
            yield from ("", f"### {name}", "", _flow(schema.get("description", "")))
            yield from _render_fields(schema)


def _render_route(path: str, method: str, operation: Schema) -> Iterator[str]:
    yield from ("", f"### {method.upper()} {path}", "", _flow(operation.get("description", operation["summary"])))
    if "security" in operation:
        [scope] = operation["security"][0].values()
        yield from ("", f"Scope of the API key: `{scope[0]}`.")
    parameters = operation.get("parameters", [])
    if parameters:
        yield from ("", "| parameter | in | type | default | description |", "|---|---|---|---|---|")
        for item in parameters:
            schema = item["schema"]
            yield _row(
                _name(item["name"], item.get("required", False)),
                item["in"],
                _type(schema),
                _default(schema),
                _cell(item.get("description") or schema.get("description", "")),
            )
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        kinds = " or ".join(f"`{kind}`" for kind in content)
        yield from ("", f"Body: {kinds}.")
        first = next(iter(content.values()))["schema"]
        if "$ref" in first:
            yield f"Fields: {_type(first)}."
        else:
            yield from _render_fields(first)
    answer = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema")
    if answer:
        yield from ("", f"Response: {_type(answer)}.")


def _render_fields(schema: Schema) -> Iterator[str]:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not properties:
        return
    yield from ("", "| field | type | default | description |", "|---|---|---|---|")
    for name, field in properties.items():
        yield _row(_name(name, name in required), _type(field), _default(field), _cell(field.get("description", "")))


def _render_cli() -> Iterator[str]:
    """Renders each command of the typer application."""
    root = get_command(command_line)
    yield from (
        "# Command-line reference",
        "",
        "`wan22 COMMAND --help` prints the same information. Exit status: 0 success, 1 failure, 2 wrong usage,",
        "130 when Ctrl-C interrupts `wan22 generate`. Arguments in **bold** are required.",
    )
    yield from _render_command("wan22", root)


def _render_command(path: str, command: Any) -> Iterator[str]:
    if children := getattr(command, "commands", None):
        if path != "wan22":
            yield from ("", f"## {path}", "", _flow(command.help or ""))
        for name, child in children.items():
            yield from _render_command(f"{path} {name}", child)
        return
    yield from ("", f"## {path}", "", _flow(cleandoc(command.help or "")))
    arguments = [item for item in command.params if item.param_type_name == "argument"]
    usage = " ".join([path, "[OPTIONS]", *(item.name.upper() for item in arguments)])
    yield from ("", f"    {usage}")
    if command.params:
        yield from ("", "| argument | type | default | description |", "|---|---|---|---|")
        yield from map(_render_parameter, command.params)


def _render_parameter(item: Any) -> str:
    is_argument = item.param_type_name == "argument"
    names = item.name.upper() if is_argument else ", ".join([*item.opts, *item.secondary_opts])
    kind = "flag" if getattr(item, "is_flag", False) else _cell(_parameter_type(item))
    default = item.default
    shown = "" if default is None or default is False or item.required or callable(default) else f"`{default}`"
    help_text = item.help or ""
    if item.envvar:
        help_text = f"{help_text} Environment variable: `{item.envvar}`.".strip()
    return _row(_name(names, item.required), kind, shown, _cell(help_text))


def _parameter_type(item: Any) -> str:
    annotation = item.type_descriptor.annotation
    [kind] = get_args(annotation) or [annotation]
    text = _PYTHON_TYPES.get(kind, "text")
    if isinstance(kind, type) and issubclass(kind, Enum):
        text = ", ".join(str(member.value) for member in kind)
    bounds = [f"{sign} {value:g}" for sign, value in (("≥", item.min), ("≤", item.max)) if value is not None]
    return ", ".join([text, *bounds]) + (", repeatable" if item.multiple else "")


def _render_configuration() -> Iterator[str]:
    """Renders the settings, the autoscaling policy's arguments, and the catalogue of models."""
    schema = _inline_choices(Settings.model_json_schema())
    idle = signature(FollowDemand).parameters["idle_seconds"].default
    yield from (
        "# Configuration reference",
        "",
        "`serve_config.yaml` is a Ray Serve config with one application. Its `args:` take the keys below.",
        "The service rejects an unknown key or a wrong value when it starts, and names the key.",
        "",
        "The application also needs an `autoscaling_policy`, which starts and stops generators:",
        "",
        "    autoscaling_policy:",
        "      policy_function: deployments.autoscaling:FollowDemand",
        "      policy_kwargs:",
        f"        idle_seconds: {idle:g}   # default: seconds that an idle generator stays loaded",
        "",
        "## args",
        "",
        _flow(schema.get("description", "")),
    )
    yield from _render_fields(schema)
    for name, part in schema["$defs"].items():
        if "properties" in part:
            yield from ("", f"## {name}", "", _flow(part.get("description", "")))
            yield from _render_fields(part)
    yield from (
        "",
        "## Models",
        "",
        "The catalogue is [configs/models.yaml](../../configs/models.yaml). Each value is a default that a request may",
        "override.",
        "",
        "| id | type | source | size | frames | fps | steps | guidance scale | flow shift | presets |",
        "|---|---|---|---|---|---|---|---|---|---|",
    )
    yield from map(_render_model, load_catalogue().values())


def _render_model(spec: ModelSpec) -> str:
    guidance = f"{spec.guidance_scale:g}"
    if spec.guidance_scale_2 is not None:
        guidance = f"{guidance} high-noise, {spec.guidance_scale_2:g} low-noise"
    return _row(
        f"`{spec.id}`",
        spec.type.value,
        "built in" if spec.source_kind == "builtin" else spec.source_ref,
        f"{spec.size[0]}x{spec.size[1]}",
        str(spec.num_frames),
        f"{spec.fps:g}",
        str(spec.steps),
        guidance,
        f"{spec.flow_shift:g}",
        ", ".join(spec.presets),
    )


def _inline_choices(document: Any) -> Any:
    """Returns a JSON schema whose references to enumerations are replaced by the enumerations."""
    definitions = dict(_find_definitions(document))

    def inline(node: Any) -> Any:
        if isinstance(node, list):
            return [inline(item) for item in node]
        if not isinstance(node, dict):
            return node
        found = definitions.get(str(node.get("$ref", "")).rpartition("/")[2], {})
        if "enum" in found:
            return {**found, **{key: value for key, value in node.items() if key != "$ref"}}
        return {key: inline(value) for key, value in node.items()}

    return inline(document)


def _find_definitions(node: Any) -> Iterator[tuple[str, Schema]]:
    if isinstance(node, list | dict):
        for item in node.values() if isinstance(node, dict) else node:
            yield from _find_definitions(item)
    if isinstance(node, dict):
        for key in ("$defs", "schemas"):
            yield from node.get(key, {}).items()


def _type(schema: Schema) -> str:
    """Returns a JSON schema's type in words, with a link where the type has a section of its own."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        return " ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(item) for item in schema[key]))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"map of {_type(values)}" if isinstance(values, dict) and values else "object"
    if schema.get("format") == "binary":
        return "file"
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    shown = [f"{sign} {schema[key]:.16g}" for key, sign in bounds if key in schema]
    return ", ".join([str(_JSON_TYPES.get(kind, kind)), *shown])


def _default(schema: Schema) -> str:
    value = schema.get("default")
    if value is None or value == "" or isinstance(value, dict):
        return ""
    if isinstance(value, list):
        value = ", ".join(str(item.get("id", item)) if isinstance(item, dict) else str(item) for item in value)
        return f"`{value}`" if value else ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _first_line(operation: Schema) -> str:
    return _cell(str(operation.get("description", operation["summary"])).split("\n\n")[0])


def _name(name: str, required: bool) -> str:
    return f"**`{name}`**" if required else f"`{name}`"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _flow(text: str) -> str:
    """Joins the lines of each paragraph."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in cleandoc(text).split("\n\n"))


def anchor(heading: str) -> str:
    """Returns the anchor that GitHub gives a heading."""
    kept = "".join(character for character in heading.lower() if character.isalnum() or character in " -_")
    return kept.replace(" ", "-")


PAGES: Mapping[str, Callable[[], Iterator[str]]] = {
    "http.md": _render_http,
    "cli.md": _render_cli,
    "configuration.md": _render_configuration,
}
"""Page name to the function that renders its lines."""


if __name__ == "__main__":
    main()
