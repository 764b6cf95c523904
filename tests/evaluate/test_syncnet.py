"""SyncNet computes what its authors' code computes, from the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from infinitetalk.core.errors import MediaError, ModelError
from infinitetalk.evaluate import syncnet
from infinitetalk.evaluate.faces import Look
from infinitetalk.evaluate.syncnet import FRAMES, REACH, Listener, SyncNet
from infinitetalk.media.faces import Face
from tests.evaluate.seeded import faces, sound, state

RECORDED = load_file(Path(__file__).parent / "fixtures" / "syncnet.safetensors")


@pytest.fixture(scope="module")
def network() -> SyncNet:
    built = SyncNet()
    built.load_state_dict(state({name: tuple(value.shape) for name, value in built.state_dict().items()}))
    return built.eval()


def test_cepstra_are_those_of_python_speech_features() -> None:
    assert torch.from_numpy(syncnet.cepstra(sound()).T).numpy() == pytest.approx(RECORDED["cepstra"].numpy(), abs=2e-3)


def test_towers_and_figures_are_the_authors(network: SyncNet) -> None:
    frames, count = faces(), len(RECORDED["faces"])
    seen = torch.cat([network.faces(frames[at : at + FRAMES].transpose(0, 1)[None]) for at in range(count)])
    wave = (sound() / 32767).astype(np.float32)
    heard = syncnet.heard_by(network, wave, 0, count)
    assert seen[:, ::16].numpy() == pytest.approx(RECORDED["faces"].numpy(), rel=1e-3, abs=1e-3)
    assert heard[:, ::16].numpy() == pytest.approx(RECORDED["sounds"].numpy(), rel=1e-3, abs=1e-3)
    padded = torch.nn.functional.pad(heard, (0, 0, REACH, REACH))
    means = syncnet.distances(seen, padded) / count
    assert means.numpy() == pytest.approx(RECORDED["distances"].numpy(), rel=1e-3)
    found = syncnet.lse(means)
    assert found.offset_frames == int(RECORDED["offset"])
    assert found.confidence == pytest.approx(float(RECORDED["confidence"]), rel=1e-2)
    assert found.distance == pytest.approx(float(RECORDED["distances"].min()), rel=1e-3)


def test_a_video_in_blocks_is_the_video_as_a_whole(network: SyncNet, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [np.ascontiguousarray(frame.permute(1, 2, 0).numpy().astype(np.uint8)) for frame in faces()]
    face = Face((60, 40, 160, 140), np.zeros((6, 2), np.float32), 1.0)
    figures = []
    for block in (3, 100):
        monkeypatch.setattr(syncnet, "_BLOCK", block)
        listener = Listener(network, (sound() / 32767).astype(np.float32), len(pictures))
        for index, picture in enumerate(pictures):
            listener.see(Look(index, picture, face, None))
        figures.append(listener.result())
    first, second = figures
    assert first is not None
    assert second is not None
    assert first.distance == pytest.approx(second.distance, rel=1e-4)
    assert first.offset_frames == second.offset_frames


def test_a_short_video_has_no_figures(network: SyncNet) -> None:
    assert Listener(network, np.zeros(640, np.float32), 3).result() is None


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="no such file"):
        SyncNet.read(tmp_path / "none")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(ModelError, match=r"syncnet_v2\.model"):
        SyncNet.read(tmp_path / "other")


def test_its_own_file_is_read(network: SyncNet, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "syncnet_v2.model")
    read = SyncNet.read(tmp_path / "syncnet_v2.model")
    assert not read.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in read.state_dict().items())
