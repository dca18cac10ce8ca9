"""Fixtures that load the built-in tiny models once for all tests."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image

from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.fetching.downloads import ensure_model
from wan22_bridge.models.loaded import LoadedModel

LoadModel = Callable[[str], LoadedModel]


@pytest.fixture(scope="session")
def bridge() -> ModelIntegrationBridge:
    """One bridge for all tests, because a bridge sets the number of torch's threads for the whole process."""
    return ModelIntegrationBridge()


@pytest.fixture(scope="session")
def load(bridge: ModelIntegrationBridge, models_dir: Path) -> LoadModel:
    """Loads a built-in model by its id, each model once."""
    catalogue = load_catalogue()

    @cache
    def load_once(model_id: str) -> LoadedModel:
        return bridge.load(catalogue[model_id], ensure_model(catalogue[model_id], models_dir))

    return load_once


@pytest.fixture(scope="session")
def load_exact(models_dir: Path) -> LoadModel:
    """Loads a built-in model by its id with diffusers' own kernels, which give the same bits as its pipelines."""
    catalogue, exact = load_catalogue(), ModelIntegrationBridge(exact=True)

    @cache
    def load_once(model_id: str) -> LoadedModel:
        return exact.load(catalogue[model_id], ensure_model(catalogue[model_id], models_dir))

    return load_once


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with two images of 96x64 pixels, first.png and last.png."""
    noise = torch.randint(0, 255, (2, 64, 96, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    for name, pixels in zip(("first.png", "last.png"), noise.numpy(), strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path
