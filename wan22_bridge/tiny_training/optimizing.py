"""The optimizer of the tiny models: Muon for matrices and convolutions, AdamW for the rest."""

import torch

_MATRIX_RATE = 0.02
_ADAM_RATE = 3e-3
_SMALLEST_SIDE = 4
"""A matrix with a shorter side, such as a kernel that makes three colors, is not one to orthogonalise."""


class TinyOptimizer:
    """Muon learns these small networks in a fraction of the steps that AdamW needs.

    A convolution is the matrix from its inputs, with their neighbourhood, to its outputs. An embedding is not taken
    for a matrix: a batch touches few of its rows. What needs no gradient is left as it is.
    """

    def __init__(self, *modules: torch.nn.Module) -> None:
        embeddings = {
            part.weight for module in modules for part in module.modules() if isinstance(part, torch.nn.Embedding)
        }
        learnt = [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]
        matrices = [
            parameter
            for parameter in learnt
            if parameter.ndim > 1
            and min(len(parameter), parameter[0].numel()) >= _SMALLEST_SIDE
            and parameter not in embeddings
        ]
        others = [parameter for parameter in learnt if all(parameter is not matrix for matrix in matrices)]
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
        """Takes a step with the gradients that were gathered, at a share `rate` of the highest learning rates."""
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for parameter, view in zip(self._matrices, self._views, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.reshape(view.shape)
        for optimizer, highest in self._rates:
            for group in optimizer.param_groups:
                group["lr"] = rate * highest
            optimizer.step()
        for parameter in self._parameters:
            parameter.grad = None
