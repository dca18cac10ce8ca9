"""`wan22 models`: lists models and manages their files. Only `wan22 models served` needs a running service."""

import typer

from serve_app.cli.client import DEFAULT_URL, Client
from serve_app.cli.known_models import DEFAULT_CONFIG, Config, ModelsDir, measure_size, read_models
from serve_app.cli.model_files import convert, pull, remove, verify
from serve_app.cli.model_lock import lock
from serve_app.cli.options import AsJson, Key, Url
from serve_app.cli.terminal import print_json, print_rows, reporting_errors

app = typer.Typer(no_args_is_help=True, help="List models; download, verify, convert and remove their files.")


@app.command("list")
def list_models(config: Config = DEFAULT_CONFIG, models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the known models, and whether their files are on this machine."""
    from wan22_bridge.fetching.downloads import find_model

    with reporting_errors():
        models = read_models(config, models_dir)
        rows = []
        for spec in models.specs.values():
            found = find_model(spec, models.folder) if spec.is_fetched or spec.path else models.folder
            size = measure_size(found) if found is not None and found != models.folder else 0
            rows.append(
                {
                    "id": spec.id,
                    "type": spec.type.value,
                    "source": str(spec.path or f"{spec.source_kind}: {spec.source_ref}"),
                    "available": found is not None,
                    "size_gb": round(size / 1e9, 3),
                    "served": spec.id in models.served,
                    "locked": spec.locked_files is not None,
                }
            )
    if as_json:
        print_json(rows)
        return
    lines = []
    for row in rows:
        size_gb = f"{row['size_gb']:.1f} GB" if row["size_gb"] else "yes"
        here = size_gb if row["available"] else "no"
        answers = ["yes" if row[name] else "no" for name in ("served", "locked")]
        lines.append((row["id"], row["type"], here, *answers, row["source"]))
    print_rows(("id", "type", "on this machine", "served", "locked", "source"), lines)


@app.command()
def served(as_json: AsJson = False, url: Url = DEFAULT_URL, api_key: Key = None) -> None:
    """List the models that a running service serves, with their defaults and presets."""
    with reporting_errors(), Client(url, api_key) as client:
        models = client.models()
    if as_json:
        print_json(models)
        return
    lines = []
    for model in models:
        image = f"{model['image']}{' + last' if model['end_image'] else ''}"
        numbers = [model[name] for name in ("num_frames", "fps", "steps")]
        lines.append(
            (model["id"], model["model_type"], image, model["size"], *numbers, ", ".join(map(str, model["presets"])))
        )
    print_rows(("model", "type", "image", "size", "frames", "fps", "steps", "presets"), lines)


for command in (pull, verify, lock, remove, convert):
    app.command()(command)
