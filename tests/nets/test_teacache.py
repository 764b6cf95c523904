"""TeaCache skips what the reference's own class skipped, and a cached run ends where its run ended."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.defaults import Settings
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.diffusion.caching import teacache
from infinitetalk.diffusion.schedule import timesteps
from infinitetalk.engine.denoise import Conditions, Script, changes, denoise
from infinitetalk.models.dit import AudioDiT
from tests.conftest import golden_normal
from tests.nets.record_teacache import RUN, STEPS, TABLES, THRESHOLDS, read, weights

FIXTURE = Path(__file__).parent / "fixtures" / "teacache.safetensors"


def meta() -> Any:
    with safe_open(str(FIXTURE), "pt") as file:
        return json.loads(file.metadata()["meta"])


LISTS = meta()["lists"]


@pytest.fixture(scope="module")
def dit() -> AudioDiT:
    case = read()
    with torch.device("meta"):
        net = AudioDiT(DiTConfig.read(case.meta["config"]))
    net.load_state_dict(weights(case), strict=True, assign=True)
    return net.eval().requires_grad_(False)


def test_the_fixture_is_of_the_reference_and_decides_something() -> None:
    assert (meta()["repository"], meta()["commit"][:7]) == ("MeiGen-AI/InfiniteTalk", "0107cd9")
    assert len(LISTS) == len(STEPS) * len(TABLES) * len(THRESHOLDS)
    assert sum("0" in item["asked"][0] for item in LISTS) > 20
    assert len({item["asked"][0] for item in LISTS}) > 15
    assert FIXTURE.stat().st_size < 200_000


@pytest.mark.parametrize("item", LISTS, ids=lambda item: f"{item['table']}-{item['steps']}-{item['threshold']}")
def test_the_same_steps_ask_as_in_the_references_class(item: dict[str, Any], dit: AudioDiT) -> None:
    levels = timesteps(item["steps"], item["shift"])[:-1]
    course = teacache(changes(dit, levels), item["threshold"], large=item["table"] == "720")
    assert set(course) <= {None, 0.0}
    asked = "".join("01"[ahead is None] for ahead in course)
    assert [asked] * 3 == item["asked"]


def _run(dit: AudioDiT, **cache: Any) -> Tensor:
    case = read()
    shapes, seed = case.meta["generated"], int(case.tensors["audio_seed"][0])
    latent, text = case.tensors["latent"], case.tensors["context"]
    told = Conditions(
        condition=case.tensors["y"][0],
        motion=latent[:, :1],
        audio=golden_normal("audio", tuple(shapes["audio"]), seed),
        places=None,
        prompt=text,
        negative=text.flip(0),
        clip=golden_normal("clip_fea", tuple(shapes["clip_fea"]), case.meta["weight_seed"]),
    )
    settings = Settings(
        size=Pixels(64, 48), output_size=Pixels(64, 48), window_frames=9, motion_frames=1, seam_frames=0,
        steps=int(RUN["steps"]), shift=RUN["shift"], text_scale=RUN["text_scale"], audio_scale=RUN["audio_scale"],
        color_strength=0, **cache,
    )  # fmt: skip
    request = TalkRequest(image=Path("a"), audio=(Path("b"),))
    with torch.inference_mode():
        *_, last = denoise(Script(dit), latent, told, request, settings)
    return last


def test_a_cached_run_ends_where_the_references_ends(
    dit: AudioDiT, relative_error: Callable[[Tensor, Tensor], float]
) -> None:
    truth = load_file(FIXTURE)["latent"]
    cached = _run(dit, step_cache="teacache", cache_threshold=RUN["threshold"])
    assert relative_error(cached, truth) < 1e-4
    assert relative_error(_run(dit), truth) > 1e-2, "the cache changes something"
