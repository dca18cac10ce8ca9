"""A library to run Wan2.2 with, over diffusers' components."""

import logging

# Diffusers imports torchao, and on a machine without CUDA each import of that tells of kernels that it can do without.
for _name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
