"""`wan22-tiny`: makes the built-in models ahead of their first use, trains them anew, and draws how that went."""

import argparse
from pathlib import Path

from wan22_bridge.builtin.family import FAMILY, ensure_tiny_model

PARTS = ("vae", "text", *FAMILY, "neon", "lightning")


def main() -> None:
    """Parses the command line and does what it says."""
    parser = argparse.ArgumentParser(prog="wan22-tiny", description="The built-in tiny Wan2.2 models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    make = commands.add_parser("make", help="make the models below a folder, where they are missing")
    make.add_argument("models_dir", type=Path, help="the folder that will hold one folder a model")
    train = commands.add_parser("train", help="train a part anew on the tiny world, on the CPU")
    train.add_argument(
        "--part",
        choices=PARTS,
        required=True,
        help="vae: both VAEs; text: the text encoder of all; t2v, i2v, ti2v: the transformers of a model; "
        "neon, lightning: the LoRAs",
    )
    train.add_argument("--minutes", type=float, help="on two cores, about: it decides how many steps there are")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--weights",
        type=Path,
        help="the folder of the parts that this one builds on (default: those that are built in)",
    )
    train.add_argument("--out", type=Path, required=True, help="the folder for the weights and the log")
    plot = commands.add_parser("plot", help="draw the curves of trainings; needs matplotlib")
    plot.add_argument("logs", type=Path, nargs="+", metavar="FOLDER", help="what train was given as --out")
    plot.add_argument("--out", type=Path, required=True, help="the PNG")
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
