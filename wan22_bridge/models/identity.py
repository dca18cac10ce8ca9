"""Names for the content of a model's folder: two folders with equal files have equal names."""

from pathlib import Path

from wan22_bridge.files import identify_files

_SUFFIXES = (".safetensors", ".gguf", ".json", ".model")


def identify_model(folder: Path) -> str:
    """Returns a name for the weights, configs and tokenizer in a model's folder."""
    return _identify(folder)


def identify_text_encoder(folder: Path) -> str:
    """Returns a name for the text encoder and the tokenizer in a model's folder."""
    return _identify(folder / "text_encoder", folder / "tokenizer")


def _identify(*folders: Path) -> str:
    found = (path for folder in folders for path in folder.rglob("*"))
    return identify_files(path for path in found if path.suffix in _SUFFIXES)
