"""Makes an expert's next pass fail like a broken GPU, in each Python process that has this folder in its PYTHONPATH.

The pass fails while the file named by WAN22_TEST_BREAK_GPU exists, and removes the file. The import of diffusers' class
is awaited, because an import at the start of each process would take seconds.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_MODULE = "diffusers.models.transformers.transformer_wan"


class _Finder:
    """Finds the module of the expert's class, and changes the class once it is imported."""

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            _change(module.WanTransformer3DModel)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def _change(expert: Any) -> None:
    forward = expert.forward

    def fail_or_forward(self: Any, *given: Any, **named: Any) -> Any:
        file = Path(os.environ["WAN22_TEST_BREAK_GPU"])
        if file.exists():
            import torch

            file.unlink()
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return forward(self, *given, **named)

    expert.forward = fail_or_forward


if "WAN22_TEST_BREAK_GPU" in os.environ:
    sys.meta_path.insert(0, _Finder())
