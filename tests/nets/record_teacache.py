"""Records what TeaCache of the reference's own class skips, and where a cached run of it ends.

    python -m tests.nets.record_teacache CHECKOUT IMPORTER tests/nets/fixtures/teacache.safetensors

CHECKOUT is MeiGen-AI/InfiniteTalk at 0107cd9, IMPORTER as for `benchmarks.parity`. Weights and inputs are those of the
golden case `dit_one_person`, with calmer embeddings of time: drawn at random they change so much from step to step that
nothing is skipped. A skipped pass is one in which the first block was not called.
"""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infinitetalk.diffusion.schedule import timesteps
from tests.conftest import GOLDEN, GoldenCase, golden_normal

STEPS, THRESHOLDS = (20, 30, 40), (0.1, 0.2, 0.3, 0.5)
TABLES = {"480": 7.0, "720": 11.0}
"""The reference's shift for each of its size tables."""
CALM = {"time_embedding.0.weight": 0.1, "time_projection.1.weight": 0.3}
"""What weights are multiplied with, so that the modulation changes by some per cent in a step."""
RUN = {"steps": 20, "shift": 7.0, "threshold": 0.2, "text_scale": 5.0, "audio_scale": 4.0}
REPOSITORY = "MeiGen-AI/InfiniteTalk"


def read() -> GoldenCase:
    """The golden case whose weights and inputs are used."""
    path = GOLDEN / "dit_one_person.safetensors"
    with safe_open(str(path), "pt") as file:
        return GoldenCase(load_file(path), json.loads(file.metadata()["meta"]))


def weights(case: GoldenCase) -> dict[str, Tensor]:
    """All weights under their checkpoint's names."""
    return {name: weight * CALM.get(name, 1.0) for name, weight in case.state.items()}


def build(network: Any, case: GoldenCase) -> nn.Module:
    """The reference's network with the golden weights."""
    net: nn.Module = network(weight_init=False, **case.meta["config"])
    net.load_state_dict(weights(case), strict=True)
    bare: Any = net
    bare.init_freqs()
    return net.eval()


class Asker:
    """The reference's network with its inputs, in the three passes that its pipeline makes of a step."""

    def __init__(self, net: Any, case: GoldenCase) -> None:
        self.net, self.case = net, case
        shapes, seed = case.meta["generated"], int(case.tensors["audio_seed"][0])
        self.clip = golden_normal("clip_fea", tuple(shapes["clip_fea"]), case.meta["weight_seed"])
        self.audio = golden_normal("audio", tuple(shapes["audio"]), seed)
        self.called: list[bool] = []
        self._now = False
        net.blocks[0].register_forward_hook(self._note)

    def _note(self, *_: object) -> None:
        self._now = True

    def ask(self, latent: Tensor, level: float, text: Tensor, audio: Tensor) -> Tensor:
        """One pass."""
        self._now = False
        tensors = self.case.tensors
        velocity: Tensor = self.net(
            [latent], t=torch.tensor([level]), context=[text], seq_len=latent[0].numel() // 4, clip_fea=self.clip,
            y=tensors["y"], audio=audio, ref_target_masks=tensors["masks"],
        )  # fmt: skip
        self.called.append(self._now)
        return velocity.reshape(latent.shape)

    def run(self, levels: list[float], text_scale: float, audio_scale: float) -> Tensor:
        """All steps: the last latent."""
        start, text = self.case.tensors["latent"], self.case.tensors["context"]
        latent, negative = start, text.flip(0)
        self.called = []
        for now, then in pairwise(levels):
            full = self.ask(latent, now, text, self.audio)
            no_text = self.ask(latent, now, negative, self.audio)
            neither = self.ask(latent, now, negative, torch.zeros_like(self.audio))
            velocity = neither + text_scale * (full - no_text) + audio_scale * (no_text - neither)
            latent = latent - velocity * (now - then) / 1000
            latent = torch.cat([start[:, :1], latent[:, 1:]], dim=1)
        return latent


@torch.no_grad()
def main() -> None:
    """Writes the fixture."""
    from benchmarks.reference import reference_class

    checkout, importer, out = (Path(word) for word in sys.argv[1:])
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    case = read()
    net: Any = build(reference_class(checkout, importer), case)
    asker = Asker(net, case)
    lists = []
    for table, shift in TABLES.items():
        for steps in STEPS:
            for threshold in THRESHOLDS:
                scale = f"infinitetalk-{table}"
                net.teacache_init(sample_steps=steps, teacache_thresh=threshold, model_scale=scale)
                asker.run(timesteps(steps, shift), 5.0, 4.0)
                passes = ["".join("01"[called] for called in asker.called[branch::3]) for branch in range(3)]
                lists.append({"table": table, "steps": steps, "shift": shift, "threshold": threshold, "asked": passes})
    net.teacache_init(sample_steps=RUN["steps"], teacache_thresh=RUN["threshold"], model_scale="infinitetalk-480")
    latent = asker.run(timesteps(int(RUN["steps"]), RUN["shift"]), RUN["text_scale"], RUN["audio_scale"])
    meta = {"repository": REPOSITORY, "commit": commit, "lists": lists, "run": RUN}
    save_file({"latent": latent.contiguous()}, out, metadata={"meta": json.dumps(meta)})


if __name__ == "__main__":
    main()
