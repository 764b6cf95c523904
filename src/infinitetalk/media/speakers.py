"""Programs and packages that speak a text, behind one interface; all of them are optional.

A voice is named `kokoro:af_heart` or `espeak:en-gb`.
"""

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from infinitetalk.core.errors import MachineError, RequestError

KOKORO_REPOSITORY: Final = "hexgrad/Kokoro-82M"

_OTHER_NAME: Final = re.compile(r"\(([\w-]+) \d+\)")
"""Other names of a language in espeak-ng's list, such as (en 2)."""

_KOKORO_RATE: Final = 24_000

_KOKORO_VOICES: Final = """
af_alloy af_aoede af_bella af_heart af_jessica af_kore af_nicole af_nova af_river af_sarah af_sky am_adam am_echo
am_eric am_fenrir am_liam am_michael am_onyx am_puck am_santa bf_alice bf_emma bf_isabella bf_lily bm_daniel bm_fable
bm_george bm_lewis ef_dora em_alex em_santa ff_siwis hf_alpha hf_beta hm_omega hm_psi if_sara im_nicola jf_alpha
jf_gongitsune jf_nezumi jf_tebukuro jm_kumo pf_dora pm_alex pm_santa zf_xiaobei zf_xiaoni zf_xiaoxiao zf_xiaoyi
zm_yunjian zm_yunxi zm_yunxia zm_yunyang
"""


class Speaker(Protocol):
    """What speaks a text."""

    def voices(self) -> Sequence[str]:
        """Names of all voices.

        Raises:
            MachineError: it is not installed.
        """

    def speak(self, words: str, voice: str) -> tuple[NDArray[np.float32], int]:
        """Mono samples [n], full scale 1, and how many make a second.

        Raises:
            MachineError: it cannot be used here.
        """


class Kokoro:
    """Kokoro-82M through its authors' package; weights and voices come from the hub the first time."""

    def voices(self) -> Sequence[str]:
        """Names of the model's voices; the first letter is the language, the second the sex."""
        return _KOKORO_VOICES.split()

    def speak(self, words: str, voice: str) -> tuple[NDArray[np.float32], int]:
        """Speaks at 24 kHz.

        Raises:
            MachineError: the package is missing, or its weights cannot be had.
        """
        try:
            import torch
            from kokoro import KPipeline
        except ImportError as error:
            raise MachineError(f"kokoro:{voice} needs the package kokoro ({error}): pip install kokoro") from error
        try:
            # Its network draws noise; a text must sound the same when an unfinished video goes on.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                pipeline = KPipeline(lang_code=voice[0], repo_id=KOKORO_REPOSITORY, device="cpu")
                parts = [np.asarray(part.audio, np.float32).ravel() for part in pipeline(words, voice=voice)]
        except Exception as error:
            line = f"Kokoro cannot speak here ({error}); its weights are {KOKORO_REPOSITORY} of the hub"
            raise MachineError(line) from error
        return np.concatenate([np.zeros(0, np.float32), *parts], dtype=np.float32), _KOKORO_RATE


class Espeak:
    """espeak-ng, called as a program of its own."""

    def voices(self) -> Sequence[str]:
        """Languages, as the program lists them.

        Raises:
            MachineError: the program is not installed.
        """
        lines = self._run("--voices").decode(errors="replace").splitlines()[1:]
        listed = {line.split()[1] for line in lines if len(line.split()) > 1}
        return sorted(listed | {name for line in lines for name in _OTHER_NAME.findall(line)})

    def speak(self, words: str, voice: str) -> tuple[NDArray[np.float32], int]:
        """Speaks at the program's own rate.

        Raises:
            MachineError: the program is not installed, or fails.
        """
        # The text goes through the standard input, so that no word of it is taken for an option.
        data = self._run("-v", voice, "--stdin", "--stdout", words=words)
        header = data.index(b"data") + 8  # sizes in the header are unknown to a program that writes as it speaks
        rate = int.from_bytes(data[24:28], "little")
        samples = np.frombuffer(data, "<i2", (len(data) - header) // 2, header)
        return np.asarray(samples / 2**15, np.float32), rate

    def _run(self, *options: str, words: str = "") -> bytes:
        program = shutil.which("espeak-ng")
        if program is None:
            raise MachineError("voices espeak:LANGUAGE need the program espeak-ng (Debian: apt install espeak-ng)")
        done = subprocess.run([program, *options], input=words.encode(), capture_output=True, check=False)
        if done.returncode:
            raise MachineError(f"espeak-ng failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


SPEAKERS: Mapping[str, Speaker] = {"kokoro": Kokoro(), "espeak": Espeak()}


def find_speaker(name: str) -> tuple[Speaker, str]:
    """The speaker of a voice, and the voice's name there.

    Raises:
        RequestError: no such voice; the line names those that work.
        MachineError: a program that is not installed.
    """
    kind, _, voice = name.partition(":")
    if kind not in SPEAKERS or not voice:
        raise RequestError("voice", name, "voices are named like kokoro:af_heart or espeak:en-gb")
    speaker = SPEAKERS[kind]
    known = speaker.voices()
    if voice not in known:
        raise RequestError("voice", name, f"{kind} has no such voice; there are {', '.join(known)}")
    return speaker, voice
