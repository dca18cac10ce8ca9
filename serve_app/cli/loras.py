"""`wan22 loras`: lists, uploads and deletes the LoRAs of a running service."""

from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.terminal import print_json, print_rows, reporting_errors, say
from wan22_bridge.models.lora_names import LoraTarget

app = typer.Typer(no_args_is_help=True, help="List, upload and delete the LoRAs of a running service.")


@app.command("list")
def list_loras(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """List the LoRAs, the models that they fit, and their trigger words."""
    with reporting_errors(), Client(url, api_key) as client:
        loras = client.loras()
    if as_json:
        print_json(loras)
        return
    lines = []
    for lora in loras:
        size = "built in" if lora["is_builtin"] else f"{lora['size_mb']:.1f} MB"
        experts = " + ".join(str(expert).removesuffix("_noise") for expert in lora["experts"])
        fits = ", ".join(map(str, lora["fits"])) or "no served model"
        lines.append((lora["name"], size, experts, fits, ", ".join(map(str, lora["trigger_words"]))))
    print_rows(("lora", "size", "experts", "fits", "trigger words"), lines)


@app.command()
def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="The .safetensors file.")],
    name: Annotated[str | None, typer.Option(help="Name of the LoRA. Default: the file's.")] = None,
    expert: Annotated[
        LoraTarget | None,
        typer.Option(help="Experts that the file is for. Default: as a HIGH or LOW in the file's name tells, or both."),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace a LoRA of the same name.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Upload a LoRA. The service checks that it fits a Wan2.2 model. Two files of one name become a pair."""
    fields = {"name": name, "expert": expert, "replace": "true" if replace else None}
    with reporting_errors(), Client(url, api_key) as client:
        answer = client.upload_lora(file, {key: value for key, value in fields.items() if value is not None})
    if as_json:
        print_json(answer)
        return
    say(answer["message"])


@app.command()
def delete(
    name: Annotated[str, typer.Argument(help="The LoRA's name; see `wan22 loras list`.")],
    url: Url = DEFAULT_URL,
    api_key: Key = None,
) -> None:
    """Delete a LoRA that no pending or running job uses."""
    with reporting_errors(), Client(url, api_key) as client:
        say(client.delete_lora(name))
