"""Compares the planner's estimate with the measured peak of whole processes, on random models of a middle size."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.support.middle_models import make_middle_model
from benchmarks.support.reporting import Row, parse_arguments, report
from wan22_bridge.bridge import ModelIntegrationBridge
from wan22_bridge.catalogue import load_catalogue
from wan22_bridge.models.architecture import find_architecture
from wan22_bridge.planning.estimates import estimate_memory
from wan22_bridge.planning.footprint import FootprintMeter
from wan22_bridge.planning.rungs import base_plan
from wan22_bridge.plans import RequestShape
from wan22_bridge.types import GenerationParams

SPEC = replace(load_catalogue()["tiny-ti2v"], negative_prompt="")
SIZES = {
    # parameters: heads of size 128, layers, width of the feed-forward layer, channels of the VAE, request
    "100 M": (6, 9, 3584, 32, RequestShape(width=640, height=512, num_frames=17)),
    "300 M": (8, 18, 4096, 48, RequestShape(width=384, height=256, num_frames=17)),
    "1 B": (12, 27, 6144, 64, RequestShape(width=256, height=256, num_frames=17)),
}
QUICK = ("100 M",)


def main() -> None:
    """Measures each size, and reports the rows."""
    if sys.argv[1:2] == ["--generate"]:
        _generate(Path(sys.argv[2]), RequestShape(**json.loads(sys.argv[3])))
        return
    arguments = parse_arguments("Compare the memory estimate of a generation with its measured peak, on the CPU.")
    rows = []
    with tempfile.TemporaryDirectory(prefix="wan22-bench-") as name:
        for size in QUICK if arguments.quick else SIZES:
            rows += _compare(size, Path(name) / size.replace(" ", "-"))
    report(rows, arguments.json)


def _compare(size: str, folder: Path) -> list[Row]:
    heads, layers, ffn_dim, vae_dim, shape = SIZES[size]
    transformer = {"num_attention_heads": heads, "attention_head_dim": 128, "num_layers": layers, "ffn_dim": ffn_dim}
    make_middle_model("ti2v", folder, transformer, {"base_dim": vae_dim, "decoder_base_dim": vae_dim})
    plan = base_plan("cpu")
    footprint = FootprintMeter(find_architecture(SPEC, folder), "cpu", plan.dtypes).measure(shape)
    estimated = estimate_memory(plan, footprint).ram_bytes
    request = json.dumps({"width": shape.width, "height": shape.height, "num_frames": shape.num_frames})
    command = [sys.executable, __file__, "--generate", str(folder), request]
    measured = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [
        Row(f"{size} parameters, {footprint.tokens} tokens: measured peak", measured / 2**20, "MB"),
        Row(f"{size}: estimated", estimated / 2**20, "MB"),
        Row(f"{size}: error of the estimate", abs(estimated / measured - 1), "of measured", 0.15),
    ]


def _generate(folder: Path, shape: RequestShape) -> None:
    """Loads and generates in this process, and prints its peak resident memory, mapped weights included, in bytes."""
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, _resident_bytes())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    bridge = ModelIntegrationBridge()
    model = bridge.load(SPEC, folder)
    params = GenerationParams(
        model=SPEC.id,
        model_type=SPEC.type,
        prompt="a red circle moving right",
        negative_prompt="",
        width=shape.width,
        height=shape.height,
        num_frames=shape.num_frames,
        fps=SPEC.fps,
        steps=2,
        guidance_scale=SPEC.guidance_scale,
        guidance_scale_2=None,
        flow_shift=SPEC.flow_shift,
        seed=1,
    )
    for _ in bridge.generate(model, params, folder / "video"):
        pass
    done.set()
    watcher.join()
    print(peak)


def _resident_bytes() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem"))


if __name__ == "__main__":
    main()
