"""`wan22-tiny`: makes the built-in models ahead of their first use, and trains what of them is trained."""

import argparse
from pathlib import Path

from wan22_bridge.tiny.family import FAMILY, ensure_tiny_model


def main() -> None:
    """Parses the command line and does what it says."""
    parser = argparse.ArgumentParser(prog="wan22-tiny", description="The built-in tiny Wan2.2 models.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    make = commands.add_parser("make", help="make the models below a folder, where they are missing")
    make.add_argument("models_dir", type=Path, help="the folder that will hold one folder a model")
    train = commands.add_parser("train", help="train a part anew on the tiny world, on the CPU")
    train.add_argument("--part", choices=["vae"], required=True, help="vae: the one that T2V and I2V share")
    train.add_argument("--minutes", type=float, default=18.0, help="on two cores, about: it decides how many steps")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out", type=Path, required=True, help="the folder for the weights and the log")
    arguments = parser.parse_args()
    if arguments.command == "make":
        for member in FAMILY:
            print(ensure_tiny_model(arguments.models_dir, member))
    else:
        _train_vae(arguments.minutes, arguments.seed, arguments.out)


def _train_vae(minutes: float, seed: int, out: Path) -> None:
    from wan22_bridge.tiny.trained import save_vae
    from wan22_bridge.tiny.vae_training import new_vae, scale_recipe, train_vae

    out.mkdir(parents=True, exist_ok=True)
    vae = train_vae(new_vae(seed), scale_recipe(minutes), seed=seed, log=out / "log.jsonl")
    save_vae(vae, out / "vae-2.1")
    print(out / "vae-2.1")


if __name__ == "__main__":
    main()
