"""Main memory while converting: two blocks and 1 GiB at the most, whatever the model's size."""

import json
import subprocess
import sys
from dataclasses import asdict
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.units import GIB
from infinitetalk.weights import names

CONFIG = DiTConfig(
    text_len=8, dim=3072, ffn_dim=8192, freq_dim=64, text_dim=64, num_heads=24, num_layers=10, clip_dim=32,
    clip_tokens=5, audio_blocks=2, audio_channels=32, intermediate_dim=32, output_dim=768, context_tokens=4,
)  # fmt: skip
"""Wide enough that the whole network is larger than what may be held of it."""

CONVERT = """
import json, sys
from dataclasses import replace
from pathlib import Path
import torch
from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.loras import Lora
from infinitetalk.engine.convert import convert, plan_transformer
from infinitetalk.runtime.cgroups import from_table
from infinitetalk.weights.convert.layout import Kind
from infinitetalk.weights.folder import Part
from tests.convert.jobs import Listener

folder, kind = Path(sys.argv[1]), sys.argv[2]
config = DiTConfig.read(json.loads((folder / "config.json").read_text()))
part = Part(config, tuple(sorted(folder.glob("shard-*.safetensors"))))
loras = (Lora(folder / "lora.safetensors"),)
job = plan_transformer(part, folder / kind, Kind.of(kind, torch.bfloat16), loras, name="dit.safetensors")
convert(job, torch.device("cpu"), Listener())
print(json.dumps({"peak": from_table(Path("/proc/self/status"), "VmHWM:")}))
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="needs the peak of one process, not of its parents")
@pytest.mark.parametrize("kind", ["bf16", "fp8", "int8", "q4"])
def test_peak_memory_of_a_large_model(kind: str, tmp_path: Path) -> None:
    """Base in one file beside a LoRA for every block; reading all of it would take far more than is allowed."""
    shapes = names.dit(CONFIG)
    state = {name: torch.full(shape, 0.01, dtype=torch.bfloat16) for name, shape in shapes.items()}
    size = sum(value.nbytes for value in state.values())
    save_file(state, tmp_path / "shard-1.safetensors")
    del state
    lora = {
        f"diffusion_model.blocks.{number}.{layer}.lora_{side}.weight": torch.full(shape, 0.01)
        for number in range(CONFIG.num_layers)
        for layer, out, inner in (("ffn.0", CONFIG.ffn_dim, CONFIG.dim), ("self_attn.q", CONFIG.dim, CONFIG.dim))
        for side, shape in (("down", (64, inner)), ("up", (out, 64)))
    }
    save_file(lora, tmp_path / "lora.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(CONFIG)))
    block = 2 * sum(prod(shape) for name, shape in shapes.items() if name.startswith("blocks.0."))
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(tmp_path), kind], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    most = 2 * block + GIB
    print(f"{kind}: block {block / GIB:.3f} GiB, peak {told['peak'] / GIB:.3f} GiB")  # noqa: T201
    assert size > most, "the model must be large enough to show it"
    assert told["peak"] <= most
