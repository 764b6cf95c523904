"""The seven stages of a job, named as users see them in progress bars and documents."""

from enum import Enum


class Stage(Enum):
    """One stage of a job; the value is the name that users read."""

    AUDIO_ENCODING = "audio encoding"
    FEATURE_EXTRACTION = "feature extraction"
    DENOISING = "denoising (DiT)"
    KEY_FRAMES = "sparse key frames"
    INTERPOLATION = "frame interpolation"
    LIP_SYNC = "lip sync and motion"
    ASSEMBLY = "assembly"
