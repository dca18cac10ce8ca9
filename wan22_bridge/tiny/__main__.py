"""`wan22-tiny`: makes the built-in models ahead of their first use."""

import argparse
from pathlib import Path

from wan22_bridge.tiny.family import FAMILY, ensure_tiny_model


def main() -> None:
    """Parses the command line and makes what is missing."""
    parser = argparse.ArgumentParser(prog="wan22-tiny", description="The built-in tiny Wan2.2 models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("make", help="make the models below a folder, where they are missing")
    make.add_argument("models_dir", type=Path, help="the folder that will hold one folder a model")
    arguments = parser.parse_args()
    for member in FAMILY:
        print(ensure_tiny_model(arguments.models_dir, member))


if __name__ == "__main__":
    main()
