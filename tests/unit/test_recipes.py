"""Recipes: what each stands for, what of it a request overrules, and which models are refused."""

from pathlib import Path
from typing import Any

import pytest

from infinitetalk.core.defaults import STANDARD_BUCKETS, ModelDefaults, ModelFacts, Settings, resolve
from infinitetalk.core.errors import RequestError
from infinitetalk.core.loras import Lora
from infinitetalk.core.presets import DISTILLED, LORA_4STEP, LORA_FUSIONX, PRESETS
from infinitetalk.core.recipes import RECIPES
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import Pixels
from infinitetalk.diffusion.guidance import branches
from infinitetalk.diffusion.sampler import SCHEDULERS
from infinitetalk.engine.job import prepare
from infinitetalk.weights.hub.recipe import with_lora

LARGE = ModelFacts(name="large", defaults=ModelDefaults(), buckets=STANDARD_BUCKETS, has_text=True, max_people=2)
FEW = ModelFacts(name="few", defaults=ModelDefaults(**DISTILLED), buckets=STANDARD_BUCKETS, has_text=True, max_people=2)
LIGHT, FUSION = Path("loras", LORA_4STEP.short), Path(LORA_FUSIONX.short)


def request(**changes: Any) -> TalkRequest:
    return TalkRequest(**{"image": Path("a.png"), "audio": (Path("a.wav"),), **changes})


def numbers(found: Settings) -> tuple[object, ...]:
    return found.steps, found.shift, found.text_scale, found.audio_scale, found.scheduler


def passes(found: Settings) -> int:
    return found.steps * len(branches(found.text_scale, found.audio_scale))


@pytest.mark.parametrize(
    ("recipe", "loras", "expected", "count"),
    [
        ("draft", (LIGHT,), (4, 2.0, 1.0, 2.0, "euler"), 8),
        ("fast", (FUSION,), (8, 2.0, 1.0, 2.0, "euler"), 16),
        ("quality", (), (40, 7.0, 5.0, 4.0, "euler"), 120),
    ],
)
def test_what_each_stands_for(recipe: str, loras: tuple[Path, ...], expected: tuple[object, ...], count: int) -> None:
    found = resolve(request(recipe=recipe, loras=loras), LARGE, Pixels(1000, 1000))
    assert numbers(found) == expected
    assert passes(found) == count


def test_what_the_request_says_wins() -> None:
    asked = request(
        recipe="draft", loras=(LIGHT,), steps=6, shift=5.0, text_scale=2.0, audio_scale=3.0, scheduler="ab2"
    )
    assert numbers(resolve(asked, LARGE, Pixels(1000, 1000))) == (6, 5.0, 2.0, 3.0, "ab2")


@pytest.mark.parametrize(("recipe", "file"), [("draft", LORA_4STEP), ("fast", LORA_FUSIONX)])
def test_a_lacking_lora_is_named_with_the_command_that_gets_it(recipe: str, file: Any) -> None:
    face = Lora(Path("face.safetensors"))
    for loras in ((), (face,), (Lora(LIGHT, 0.0),)):
        with pytest.raises(RequestError, match="recipe") as caught:
            resolve(request(recipe=recipe, loras=loras), LARGE, Pixels(1000, 1000))
        assert f"needs the LoRA {file.short} of {file.repository.name}" in str(caught.value)
        assert f"hf download {file.repository.name} {file.name}" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "facts", "loras", "match"),
    [
        ("quality", LARGE, (LIGHT,), "takes 40 steps, and lightx2v.* is for a few"),
        ("quality", FEW, (), "few is made for 4 steps"),
        ("draft", FEW, (), "few is made for 4 steps"),
    ],
)
def test_models_of_another_kind_are_refused(recipe: str, facts: ModelFacts, loras: tuple[Path], match: str) -> None:
    with pytest.raises(RequestError, match=match):
        resolve(request(recipe=recipe, loras=loras), facts, Pixels(1000, 1000))


def test_a_lora_of_the_models_own_is_as_good() -> None:
    for preset in PRESETS.values():
        if LORA_4STEP in preset.files:
            own = ModelFacts(
                name=preset.name, defaults=ModelDefaults(**preset.defaults), buckets=STANDARD_BUCKETS, has_text=True,
                max_people=1, loras=(Lora(LIGHT),),
            )  # fmt: skip
            plain = resolve(request(), own, Pixels(1000, 1000))
            assert resolve(request(recipe="draft"), own, Pixels(1000, 1000)) == plain


@pytest.mark.parametrize("recipe", ["draft", "fast"])
def test_the_bundled_model_takes_no_lora(recipe: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nano has no text part, so the LoRA .* does not fit it"):
        demo = Path(__file__).parents[2] / "src" / "infinitetalk" / "assets" / "demo"
        asked = request(recipe=recipe, image=demo / "portrait_1.png", audio=(demo / "voice_1.flac",))
        prepare(asked, tmp_path / "out.mp4")


def test_a_lora_in_the_cache_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    asked = request(recipe="fast")
    assert with_lora(asked, LARGE) == asked
    owner, name = LORA_FUSIONX.repository.name.split("/")
    path = tmp_path / f"models--{owner}--{name}" / "snapshots" / "0" / LORA_FUSIONX.name
    path.parent.mkdir(parents=True)
    path.touch()
    found = with_lora(asked, LARGE)
    assert found.loras == (Lora(path),)
    assert resolve(found, LARGE, Pixels(1000, 1000)).steps == 8
    assert with_lora(found, LARGE) == found
    other = request(recipe="fast", loras=(LIGHT,))
    assert with_lora(other, LARGE) == other
    assert with_lora(request(), LARGE) == request()


def test_schedulers_and_requests_agree() -> None:
    assert {recipe.settings["scheduler"] for recipe in RECIPES.values()} <= set(SCHEDULERS)
    for name in SCHEDULERS:
        assert resolve(request(scheduler=name), LARGE, Pixels(1000, 1000)).scheduler == name
    with pytest.raises(RequestError, match="one of euler, ab2"):
        request(scheduler="heun")
    with pytest.raises(RequestError, match="Euler's method only"):
        request(scheduler="ab2", reference=True)
