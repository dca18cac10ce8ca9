"""Experts as .gguf files with the weight names of Wan's original code, which published files use."""

from pathlib import Path

import gguf
from diffusers import WanTransformer3DModel

_RENAMED = (
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("norm2", "norm of cross-attention"),
    ("norm3", "norm2"),
    ("norm of cross-attention", "norm3"),
    ("attn1", "self_attn"),
    ("attn2", "cross_attn"),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("proj_out", "head.head"),
)


def write_gguf(expert: WanTransformer3DModel, path: Path) -> Path:
    """Writes an expert to `path`: the matrices of its blocks in Q8_0, all other weights in fp32."""
    writer = gguf.GGUFWriter(path, "wan")
    for name, parameter in expert.state_dict().items():
        values = parameter.float().numpy()
        if name.startswith("blocks.") and values.ndim == 2:
            quantized = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(_original(name), quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(_original(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _original(name: str) -> str:
    """Returns the original code's name for a weight of diffusers."""
    if name == "scale_shift_table":
        return "head.modulation"
    for ours, theirs in (*_RENAMED, ("scale_shift_table", "modulation")):
        name = name.replace(ours, theirs)
    return name
