"""Optimizer of the tiny models: Muon for matrices and convolutions, AdamW for all other parameters."""

import torch

_MATRIX_RATE = 0.02
_ADAM_RATE = 3e-3
_SMALLEST_SIDE = 4
"""Minimum side of a matrix for Muon. Orthogonalization does not suit smaller ones, such as kernels of 3 colors."""


class TinyOptimizer:
    """Combination of Muon and AdamW. Muon trains these small networks in a fraction of AdamW's steps.

    A convolution counts as the matrix that maps its inputs and their neighborhood to its outputs. Embeddings use
    AdamW, because a batch changes few of their rows. Parameters without gradients stay unchanged.
    """

    def __init__(self, *modules: torch.nn.Module) -> None:
        embeddings = {
            part.weight for module in modules for part in module.modules() if isinstance(part, torch.nn.Embedding)
        }
        trained = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        matrices = [
            parameter
            for parameter in trained
            if parameter.ndim > 1
            and min(len(parameter), parameter[0].numel()) >= _SMALLEST_SIDE
            and parameter not in embeddings
        ]
        others = [parameter for parameter in trained if all(parameter is not matrix for matrix in matrices)]
        self._parameters = [*matrices, *others]
        self._matrices = matrices
        self._views = [torch.nn.Parameter(parameter.data.view(len(parameter), -1)) for parameter in matrices]
        self._rates: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.Muon(self._views, _MATRIX_RATE, weight_decay=0.01), _MATRIX_RATE)
        ]
        if others:
            adam = torch.optim.AdamW(others, _ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)
            self._rates.append((adam, _ADAM_RATE))

    def step(self, rate: float) -> None:
        """Updates the parameters with their gradients, at a share `rate` of the highest learning rates."""
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for parameter, view in zip(self._matrices, self._views, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.reshape(view.shape)
        for optimizer, highest in self._rates:
            for group in optimizer.param_groups:
                group["lr"] = rate * highest
            optimizer.step()
        for parameter in self._parameters:
            parameter.grad = None
