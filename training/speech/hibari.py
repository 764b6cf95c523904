"""Natural American English from the small hibari network (Apache-2.0), with the duration of every phoneme.

The network returns an envelope and a pitch curve per frame, so new speakers come from one voice: the pitch is scaled
and the envelope stretched along frequency, as a longer or shorter throat would do.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.speech.kokoro import Take, with_output


class Hibari:
    """The network; ``folder`` keeps its copy that also returns durations."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import hibari
        import onnxruntime

        self._speaker = hibari.Hibari(threads=threads)
        path = with_output(Path(self._speaker.model_path), folder / "hibari_durations.onnx", "Clip", "durations")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def say(self, text: str, *, speed: float, pitch: float, throat: float, rng: np.random.Generator) -> Take:
        """Speak ``text``; ``pitch`` scales the fundamental; ``throat`` below 1 lowers formants (a longer throat)."""
        from hibari import dsp

        tokens = " ".join(self._speaker.phonemize(text))
        tokens = "".join(letter for letter in tokens if letter in self._speaker.vocab)
        ids = np.array([self._speaker.ids(tokens)], dtype=np.int64)
        outputs = self._session.run(None, {"ids": ids, "speed": np.array([speed], dtype=np.float32)})
        *spectra, f0, durations = outputs
        stretched = [_stretch(spectrum[0], throat) for spectrum in spectra]
        audio = dsp.synth(*stretched, f0[0] * np.float32(pitch), rng)
        return Take(np.asarray(audio, dtype=np.float32), tokens, np.asarray(durations).ravel().astype(np.int16))


def _stretch(spectrum: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Move what lies at bin ``b`` of ``spectrum`` [bins, frames] to bin ``b * factor``."""
    bins = len(spectrum)
    position = np.minimum(np.arange(bins, dtype=np.float32) / factor, bins - 1)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, bins - 1)
    weight = (position - low)[:, None].astype(np.float32)
    return np.asarray(spectrum[low] * (1 - weight) + spectrum[high] * weight, dtype=np.float32)
