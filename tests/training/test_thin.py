"""A corpus with fewer streams holds the same streams."""

import sys
from pathlib import Path

import numpy as np
import pytest

from training.heads.visemes import Segment
from training.speech import corpus, thin
from training.speech.corpus import Utterance

RATE = corpus.RATE


def write(path: Path, split: str, count: int) -> list[Utterance]:
    tone = np.sin(np.arange(RATE) / 9) * 9000
    streams = [
        Utterance((tone * (index + 1) / count).astype(np.int16), [Segment(0, 0.0, 0.1 * (index + 1)),
                  Segment(index + 1, 0.1 * (index + 1), 1.0)], "espeak", f"voice {index}", split)
        for index in range(count)
    ]  # fmt: skip
    corpus.save(path, [corpus.encode(stream, 0.9) for stream in streams])
    return streams


def test_every_third_stream_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, few = tmp_path / "full", tmp_path / "few"
    full.mkdir()
    write(full / "train-espeak.npz", "train", 7)
    write(full / "train-kokoro.npz", "train", 2)
    write(full / "test-flite.npz", "test", 4)
    words = ["thin", str(full), str(few), "--every", "3", "--only", "train-espeak"]
    monkeypatch.setattr(sys, "argv", words)
    thin.main()
    before = corpus.load(full)
    wanted = [*before[:7:3], *before[7:]]
    found = corpus.load(few)
    assert [item.voice for item in found] == [item.voice for item in wanted]
    assert [item.segments for item in found] == [item.segments for item in wanted]
    assert all(np.array_equal(one.audio, other.audio) for one, other in zip(found, wanted, strict=True))


def test_an_empty_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["thin", str(tmp_path), str(tmp_path / "few")])
    with pytest.raises(Exception, match=r"has no \*.npz"):
        thin.main()


def test_a_name_that_nothing_has_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "train-espeak.npz", "train", 2)
    monkeypatch.setattr(sys, "argv", ["thin", str(tmp_path), str(tmp_path / "few"), "--only", "train-espaek"])
    with pytest.raises(Exception, match="no file whose name begins with train-espaek"):
        thin.main()
    assert not (tmp_path / "few").exists()
