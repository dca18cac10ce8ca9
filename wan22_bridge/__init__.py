"""Library that runs Wan2.2 models with diffusers' components."""

import logging

# Diffusers imports torchao, which warns about missing optional kernels at each import on a machine without CUDA.
for _name in ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer"):
    logging.getLogger(_name).setLevel(logging.ERROR)
