"""The `wan22` command: starts the service, and uses a running one. Exit statuses: 0 done, 1 failed, 2 wrong request."""

import io
import sys
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Annotated

import typer

from serve_app.cli.audit import audit
from serve_app.cli.calibrate import calibrate
from serve_app.cli.clean import clean
from serve_app.cli.doctor import doctor
from serve_app.cli.fit_preview import fit_preview
from serve_app.cli.jobs import cancel, generate, jobs
from serve_app.cli.keys import app as keys
from serve_app.cli.loras import app as loras
from serve_app.cli.models import app as models
from serve_app.cli.outputs import app as outputs
from serve_app.cli.outputs import upload
from serve_app.cli.plan import plan
from serve_app.cli.queue import app as queue
from serve_app.cli.simulate import simulate
from serve_app.cli.terminal import fail, say, show_error
from serve_app.cli.usage import usage
from serve_app.cli.webhooks import app as webhooks

app = typer.Typer(name="wan22", help="Wan2.2 video generation on your own machines.", no_args_is_help=True)


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The Ray Serve config.")] = Path("serve_config.yaml"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Overrides http_options.port.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Overrides data_dir.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs of Ray and the replicas.")] = False,
) -> None:
    """Start the service: check the config, then do what `serve run` does. Ctrl-C stops it."""
    from serve_app.running.interruption import Interruption

    interruption = Interruption()
    interruption.listen()
    # These imports and the checks take seconds, and Ctrl-C can come at any time.
    from serve_app.running.environment import ray_environment

    with ray_environment():
        from serve_app.running.config import load_config
        from serve_app.running.machine import check_machine
        from serve_app.running.service import run
        from wan22_bridge.errors import ConfigurationError

        try:
            checked, settings = load_config(config, port=port, data_dir=data_dir)
            check_machine(checked, settings)
        except ConfigurationError as exc:
            fail(exc.message, code=2)
        raise typer.Exit(run(checked, interruption, verbose=verbose, say=say, say_error=show_error))


app.command()(generate)
app.command()(jobs)
app.command()(cancel)
app.add_typer(queue, name="queue")
app.add_typer(outputs, name="outputs")
app.command()(upload)
app.add_typer(models, name="models")
app.add_typer(loras, name="loras")
app.add_typer(webhooks, name="webhooks")
app.add_typer(keys, name="keys")
app.command()(audit)
app.command()(usage)
app.command()(clean)
app.command()(plan)
app.command()(doctor)
app.command()(calibrate)
app.command()(simulate)
app.command()(fit_preview)


@app.command()
def version() -> None:
    """Print the version."""
    say(package_version("wan22-serve"))


def main() -> None:
    """Runs the command line. Characters that the terminal's encoding lacks are printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app()
