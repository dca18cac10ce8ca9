"""Command line `wan22-tiny`: assembles the built-in models, trains them, and plots training logs."""

import argparse
from pathlib import Path

from wan22_bridge.builtin.family import FAMILY, ensure_tiny_model

PARTS = ("vae", "text", *FAMILY, "neon", "lightning")


def main() -> None:
    """Parses the command line, and runs the command."""
    parser = argparse.ArgumentParser(prog="wan22-tiny", description="The built-in tiny Wan2.2 models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    make = commands.add_parser("make", help="assemble the missing built-in models in a folder")
    make.add_argument("models_dir", type=Path, help="the folder that gets one folder for each model")
    train = commands.add_parser("train", help="train a part from scratch on the tiny world, on the CPU")
    train.add_argument(
        "--part",
        choices=PARTS,
        required=True,
        help="vae: both VAEs; text: the shared text encoder; t2v, i2v, ti2v: the transformers of a model; "
        "neon, lightning: the LoRAs",
    )
    train.add_argument(
        "--minutes", type=float, help="approximate duration on two cores, which sets the number of steps"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--weights",
        type=Path,
        help="the folder of the trained parts that this part needs (default: the built-in weights)",
    )
    train.add_argument("--out", type=Path, required=True, help="the folder for the weights and the log")
    plot = commands.add_parser("plot", help="plot training curves; needs matplotlib")
    plot.add_argument("logs", type=Path, nargs="+", metavar="FOLDER", help="an --out folder of train")
    plot.add_argument("--out", type=Path, required=True, help="the PNG to write")
    arguments = parser.parse_args()
    if arguments.command == "make":
        for member in FAMILY:
            print(ensure_tiny_model(arguments.models_dir, member))
    elif arguments.command == "plot":
        from wan22_bridge.tiny_training.curves import plot_logs

        try:
            plot_logs({folder.name: folder / "log.jsonl" for folder in arguments.logs}, arguments.out)
        except (ImportError, OSError, ValueError) as exc:
            parser.error(str(exc))
    else:
        from wan22_bridge.tiny_training.training import train_part

        try:
            made = train_part(
                arguments.part, arguments.out, minutes=arguments.minutes, seed=arguments.seed, weights=arguments.weights
            )
        except OSError as exc:
            parser.error(str(exc).partition("\n")[0])
        for path in made:
            print(path)


if __name__ == "__main__":
    main()
