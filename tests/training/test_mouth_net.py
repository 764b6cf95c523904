"""The network that reads mouths: where it looks, what it learns from, its file, and what is said of nano by it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from infinitetalk.evaluate.series import correlation
from tests.training.test_probes import bench
from training.clock import Budget, RunLog
from training.evaluate.mouth_net import ANCHORS, FIRM, Floats, MouthNet, MouthReader, cut, save, squares
from training.evaluate.probes import COLUMNS, SHAPES
from training.evaluate.reading import Drawn, shapes
from training.evaluate.train_mouth_net import WIDE, Examples, Shelf, anchors, middle, placed, train, worn
from training.heads.blendshapes import BLENDSHAPES
from training.heads.dataset import ClipBatch, ClipOptions, make_clips
from training.heads.example import babble_tracks
from training.heads.render import HeadRenderer
from training.nano.settings import EDITIONS
from training.nano.store import Clips

SIZE = 48
SPEECH = babble_tracks(2, 1.0, seed=0)
EDITION = EDITIONS["2"]


def face(frames: int) -> Floats:
    """Anchors of a face that keeps still: eyes above a nose above a mouth."""
    points = np.array([[30, 40], [42, 40], [58, 40], [70, 40], [50, 41], [50, 46], [50, 58], [45, 57], [55, 57],
                       [40, 70], [60, 70]], np.float32)  # fmt: skip
    return np.repeat(points[None], frames, 0)


def pictures(frames: int, scale: float = 1, shift: tuple[float, float] = (0, 0), size: int = 120) -> torch.Tensor:
    """The same smooth scene, larger and elsewhere."""
    place = torch.arange(size) + 0.5
    y, x = ((place[:, None] - shift[1]) / scale, (place - shift[0]) / scale)
    scene = 128 + 50 * torch.sin(x / 5) + 50 * torch.cos(y / 7)
    return scene.round().byte()[None, ..., None].expand(frames, size, size, 3)


def test_a_larger_picture_elsewhere_gives_the_same_square() -> None:
    still, moved = face(3), face(3) * 1.6 + np.array([12, 7], np.float32)
    one = cut(pictures(3), torch.from_numpy(squares(still)))
    two = cut(pictures(3, 1.6, (12, 7), 200), torch.from_numpy(squares(moved)))
    assert float(one.std()) > 20
    assert float((one - two).abs().max()) < 4


def test_the_square_follows_the_head_and_not_the_mouth() -> None:
    track = face(9)
    away = np.linspace(0, 8, 9, dtype=np.float32)
    head = squares(track + away[:, None, None])
    assert np.allclose(np.diff(head[..., 2], axis=0), 1, atol=1e-3)
    track[:, len(FIRM) :, 1] += away[:, None]
    assert np.allclose(np.diff(squares(track), axis=0), 0, atol=1e-4)
    track[4] = np.nan
    assert np.isfinite(squares(track)).all()
    with pytest.raises(ValueError, match="no face"):
        squares(np.full_like(track, np.nan))


class Steps(Budget):
    """So many steps, however long they take."""

    def steps(self, device: torch.device | None = None, at_most: float = 0) -> Iterator[tuple[int, float]]:  # noqa: ARG002
        for step in range(int(self.seconds)):
            yield step, step / self.seconds


def bars(clips: int, frames: int = 6) -> Examples:
    """Mouths that are dark bars: how high, how wide and where each is are three of its shapes."""
    shapes = torch.rand(clips, frames, len(SHAPES), generator=torch.Generator().manual_seed(clips))
    down, across = torch.meshgrid(*(2 * [torch.linspace(-1, 1, WIDE)]), indexing="ij")
    high, wide, dark = (shapes[..., column, None, None] for column in range(3))
    inside = (down.abs() < 0.1 + 0.4 * high) & (across.abs() < 0.1 + 0.4 * wide)
    shown = (200 - 150 * inside * (0.5 + 0.5 * dark)).byte()
    return Examples(shown[:, :, None].expand(-1, -1, 3, -1, -1), shapes)


def test_a_network_learns_and_reads_others(tmp_path: Path) -> None:
    others = bars(1, 40)
    net = train(bars(24), {}, Steps(40), RunLog(tmp_path / "log.txt"), batch=4).eval()
    told, truth = net(middle(others.mouths)).detach()[0].numpy(), others.shapes[0].numpy()
    assert np.mean([correlation(told[:, column], truth[:, column]) for column in (0, 1)]) > 0.5


def test_what_is_worn_keeps_its_shape_and_changes() -> None:
    mouths = bars(2).mouths
    exact, shown = middle(mouths), placed(mouths)
    assert exact.shape == shown.shape == worn(shown).shape
    assert float((shown - exact).abs().mean()) > 1
    assert float((worn(shown) - shown).abs().mean()) > 1


def rendered(seed: int) -> tuple[ClipBatch, Clips]:
    """A clip of one person, and a store that holds what a store keeps of it."""
    options = ClipOptions(frames=4, varied=EDITION.varied, calm=EDITION.calm)
    batch = next(make_clips(1, SPEECH, seed=seed, options=options, batch=1,
                            renderer=HeadRenderer("cpu", size=SIZE, supersampling=1)))  # fmt: skip
    none = np.zeros((1, 3, 4), np.float32)
    frames = torch.cat([batch.frames, batch.reference[:, None]], 1).numpy()
    jaw = batch.weights[..., COLUMNS[0]].numpy()
    store = Clips(frames, batch.people.numpy(), none, none, none, batch.utterance.numpy(), batch.start.numpy(), jaw,
                  batch.strength.numpy())  # fmt: skip
    return batch, store


def test_what_is_recalled_is_what_was_rendered() -> None:
    batch, store = rendered(seed=2)
    shelf = Shelf(store, SPEECH, "train", 2, EDITION)
    assert shelf.alone().tolist() == [0]
    ((index, clip),) = shelf.sampled([0])
    assert index == 0
    assert np.array_equal(clip.spec.people[0].motion.weights, batch.weights[0, 0].numpy())
    assert len(set(COLUMNS)) == len(SHAPES) and COLUMNS[0] != COLUMNS[1]
    points = anchors(HeadRenderer("cpu", size=SIZE).mesh, clip, SIZE)
    assert points.shape == (4, len(ANCHORS), 2)
    assert within(points[:, 9:], batch.mouth_boxes[0, 0, :4].numpy())
    left, right = batch.eye_boxes[0, 0, :4].unbind(1)
    assert within(points[:, 0:2], right.numpy()) and within(points[:, 2:4], left.numpy())
    with pytest.raises(SystemExit, match="another corpus"):
        list(replace(shelf, seed=3).sampled([0]))


def within(points: Floats, boxes: NDArray[np.float32]) -> bool:
    """Whether points (F, n, 2) lie in their frame's box, up to a pixel."""
    low, high = boxes[:, None, :2] - 1, boxes[:, None, 2:] + 1
    return bool(((points >= low) & (points <= high)).all())


def test_the_file_is_small_and_reads_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path, net = tmp_path / "net.safetensors", MouthNet()
    save(net, path)
    assert path.stat().st_size < 100_000
    with safe_open(path, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"I8", "F16"}  # noqa: SIM118 - no mapping
    track = np.zeros((5, 468, 2), np.float32)
    track[:, list(ANCHORS)] = face(5)
    video = (pictures(5).numpy() + np.arange(5, dtype=np.uint8)[:, None, None, None]).astype(np.uint8)
    told = MouthReader.load(path)(track, video)
    assert told.shape == (5, len(SHAPES))
    exact = MouthReader(net.eval())(track, video)
    assert np.abs(told - exact).max() < 0.05 * np.abs(exact).max()
    with pytest.raises(FileNotFoundError, match="train_mouth_net makes it"):
        MouthReader.load(tmp_path / "none.safetensors")


class Telling(MouthReader):
    """Reads what a video's first pixels say."""

    def __call__(self, track: Floats, video: NDArray[np.uint8]) -> Floats:  # noqa: ARG002
        return video[:, 0, 0].astype(np.float32)


def test_videos_and_renders_are_read_by_the_same_network() -> None:
    told = np.random.default_rng(0).integers(0, 255, (40, len(SHAPES)), np.uint8)
    other = np.random.default_rng(1).integers(0, 255, told.shape, np.uint8)
    weights = np.zeros((40, len(BLENDSHAPES)), np.float32)
    weights[:, COLUMNS] = told / 255
    render, made = told[:, None, None], other.copy()[:, None, None]
    made[..., 0] = render[..., 0]
    none, said = np.zeros((40, 468, 2), np.float32), np.zeros(40, np.int64)
    seen = bench()
    jaw, five, each_other = shapes(seen, [Drawn(render, none, said, weights, made, none, said)], Telling(MouthNet()))
    assert jaw.value == pytest.approx(1)
    assert jaw.passed is True
    assert abs(five.value) < 0.3 and five.passed is False
    assert five.note.endswith("on true renders 1.00")
    assert each_other.value == pytest.approx(five.value)
    assert [row[1] for row in seen.details["shapes"].values()] == [1.0] * len(SHAPES)  # type: ignore[attr-defined]


def test_the_trained_network_is_there() -> None:
    told = MouthReader.load()
    assert sum(value.numel() for value in told.net.parameters()) < 100_000
