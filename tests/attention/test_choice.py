"""The choice reaches every attention of the video network, from the settings of a run; what cannot serve is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from infinitetalk.core.configs import DiTConfig
from infinitetalk.core.errors import RequestError
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine import model as loading
from infinitetalk.engine.engine import Engine
from infinitetalk.models.dit import AudioDiT
from infinitetalk.ops.attention import sdpa
from tests.engine.inputs import Memory, pictures, talk, voice
from tests.nets.random_nets import noise, shaken

SMALL = DiTConfig(
    text_len=12, dim=48, ffn_dim=64, freq_dim=16, text_dim=10, num_heads=4, num_layers=2, clip_dim=14, clip_tokens=5,
    audio_blocks=2, audio_channels=6, intermediate_dim=8, output_dim=20, context_tokens=3,
)  # fmt: skip
FRAMES, ROWS, COLUMNS = 3, 4, 8
TOKENS = ROWS * COLUMNS // 4


def ask(net: AudioDiT, people: int) -> Tensor:
    config = net.config
    strips = (torch.arange(COLUMNS) * (people + 1) // COLUMNS).expand(1, 1, ROWS, COLUMNS)
    with torch.no_grad():
        answer: Tensor = net(
            noise(1, 16, FRAMES, ROWS, COLUMNS),
            torch.tensor([500.0]),
            condition=noise(1, 20, FRAMES, ROWS, COLUMNS, seed=1),
            audio=noise(1, people, 4 * FRAMES - 3, 5, 2, 6, seed=2),
            masks=(strips == torch.arange(people + 1).view(1, -1, 1, 1)).float(),
            text=noise(1, 7, config.text_dim, seed=3) if config.text_dim else None,
            clip=noise(1, 5, config.clip_dim, seed=4) if config.clip_dim else None,
        )
    return answer


def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (torch.einsum("blhd,bshd->bhls", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return torch.einsum("bhls,bshe->blhe", weights, v)


@pytest.mark.parametrize("people", [1, 2])
@pytest.mark.parametrize("at_once", [None, 1])
@pytest.mark.parametrize("config", [SMALL, replace(SMALL, text_dim=0, clip_dim=0)], ids=["all parts", "sound only"])
def test_all_attention_of_the_network_is_by_the_kernel_it_was_given(
    monkeypatch: pytest.MonkeyPatch, people: int, at_once: int | None, config: DiTConfig
) -> None:
    net = shaken(AudioDiT(config), 0)
    net.frames_at_once = at_once
    truth = ask(net, people)
    seen: list[tuple[int, int, int]] = []

    def watched(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append((q.shape[0], q.shape[1], k.shape[1]))
        return plain(q, k, v)

    def forbidden(*_: Tensor) -> Tensor:
        raise AssertionError("attention went past the kernel")

    net.attend_by = watched
    monkeypatch.setattr(F, "scaled_dot_product_attention", forbidden)
    torch.testing.assert_close(ask(net, people), truth, atol=1e-5, rtol=1e-5)
    whole, parts = FRAMES * TOKENS, FRAMES if at_once else 1
    wanted = [(1, whole, TOKENS)] * (people > 1) + [(1, whole, whole)]
    told = [(1, whole // parts, 12), (1, whole // parts, 5)] if config.text_dim else []
    wanted += [*told, (FRAMES // parts, TOKENS, 3 * people)] * parts
    assert seen == wanted * config.num_layers


def window(folder: Path, attention: str) -> tuple[Engine, Tensor]:
    engine = Engine.from_pretrained(folder, device="cpu", memory=MemorySettings(attention=attention))
    engine = Engine(engine.model, media=Memory(pictures(), (voice(9),)))
    return engine, next(iter(engine.stream(talk(size="64")))).latent


def test_the_settings_of_a_run_reach_the_network(tiny_folder: Path) -> None:
    automatic, truth = window(tiny_folder, "auto")
    asked, latent = window(tiny_folder, "math")
    assert automatic.model.dit.attend_by is sdpa
    assert asked.model.dit.attend_by is not sdpa
    torch.testing.assert_close(latent, truth, atol=1e-4, rtol=1e-4)


def test_what_cannot_serve_is_refused_before_a_weight_is_loaded(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> object:
        raise AssertionError("weights were asked for")

    for name in ("open_loras", "plan_folder", "load_dit", "_network"):
        monkeypatch.setattr(loading, name, never)
    for name in ("cudnn", "fa3", "sage"):
        with pytest.raises(
            RequestError, match=f"attention = {name}: it needs an NVIDIA GPU, .*auto, math, flash would"
        ):
            Engine.from_pretrained(tiny_folder, device="cpu", memory=MemorySettings(attention=name))


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        RequestError, match="attention = xformers: must be auto, math, flash, cudnn, efficient, fa3, sa"
    ):
        MemorySettings(attention="xformers")
