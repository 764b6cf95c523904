"""Speak sentences with Kokoro until a time budget is spent: ``python -m training.speech.make_kokoro OUT --minutes 75``.

Slow (about real time on one core), so it writes blocks that can be used while it runs. A block ``NNNN.npz`` holds
``audio`` (int16 at 24 kHz, all takes joined) and ``takes`` (JSON: voice, text, tokens, durations, samples).
Run again with the same folder, it adds blocks.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.speech.kokoro import HELD_OUT_VOICE, Kokoro
from training.speech.sentences import english

TAKES_PER_BLOCK = 16
HELD_OUT_SHARE = 0.04
log = logging.getLogger("training.speech.make_kokoro")


def mixed_voice(voices: dict[str, NDArray[np.float32]], rng: random.Random) -> tuple[str, NDArray[np.float32]]:
    """A random blend of voices, with its name; timbre and prosody halves of the style are blended apart.

    Some blends lie beyond the voices (negative weights): that makes speakers that none of them is.
    """
    names = sorted(voices)
    weights = np.random.default_rng(rng.randrange(1 << 30)).dirichlet([0.6] * len(names), size=2)
    weights = 1 / len(names) + rng.uniform(0.8, 1.3) * (weights - 1 / len(names))
    table = np.stack([voices[name] for name in names])
    halves = [np.tensordot(w, part, axes=1) for w, part in zip(weights, np.split(table, 2, axis=-1), strict=True)]
    return "mix" + "_".join(f"{w:.2f}" for w in weights.ravel()), np.concatenate(halves, axis=-1)


def choose_voice(voices: dict[str, NDArray[np.float32]], rng: random.Random) -> tuple[str, NDArray[np.float32]]:
    """The held-out voice (rarely, for tests only), one of the training voices, or a mix of training voices."""
    if rng.random() < HELD_OUT_SHARE:
        return HELD_OUT_VOICE, voices[HELD_OUT_VOICE]
    training = {name: table for name, table in voices.items() if name != HELD_OUT_VOICE}
    if rng.random() < 0.25:
        name = rng.choice(sorted(training))
        return name, training[name]
    return mixed_voice(training, rng)


def block(kokoro: Kokoro, rng: random.Random) -> tuple[NDArray[np.int16], list[dict[str, object]]]:
    """Takes of one voice: their audio joined, and what was said."""
    name, voice = choose_voice(kokoro.voices, rng)
    audio: list[NDArray[np.int16]] = []
    takes: list[dict[str, object]] = []
    pace = rng.uniform(0.75, 1.3)
    for _ in range(TAKES_PER_BLOCK):
        text = english(rng)
        take = kokoro.say(text, voice, pace * rng.uniform(0.9, 1.1))
        audio.append((np.clip(take.audio, -1, 1) * 32767).astype(np.int16))
        takes.append(
            {
                "voice": name,
                "text": text,
                "tokens": take.tokens,
                "durations": take.durations.tolist(),
                "samples": len(take.audio),
            }
        )
    return np.concatenate(audio), takes


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Speak sentences with Kokoro until the time budget is spent.")
    parser.add_argument("out", type=Path, help="folder for the blocks")
    parser.add_argument("--minutes", type=float, default=75.0, help="time budget (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="CPU cores (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    kokoro = Kokoro(arguments.out, arguments.threads)
    index = len(list(arguments.out.glob("[0-9]*.npz")))
    deadline = time.monotonic() + 60 * arguments.minutes
    while time.monotonic() < deadline:
        audio, takes = block(kokoro, random.Random(1000 + index))
        partial = arguments.out / f"partial_{index:04d}.npz"
        np.savez(partial, audio=audio, takes=np.array(json.dumps(takes)))
        partial.rename(arguments.out / f"{index:04d}.npz")
        log.info("block %d: %s, %.0f s of speech", index, takes[0]["voice"], len(audio) / 24_000)
        index += 1


if __name__ == "__main__":
    main()
