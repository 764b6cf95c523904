"""The seven stages of a job, named as users see them in progress bars and documents."""

from enum import Enum


class Stage(Enum):
    """One stage of a job, in the order of the work; the value is the name that users read."""

    AUDIO_ENCODING = "audio encoding"
    FEATURE_EXTRACTION = "feature extraction"
    KEY_FRAMES = "sparse key frames"
    DENOISING = "denoising (DiT)"
    LIP_SYNC = "lip sync and motion"
    INTERPOLATION = "frame interpolation"
    ASSEMBLY = "assembly"
