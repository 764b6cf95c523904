"""A face and a voice, as the other faces are tried with."""

from tests.faces.conftest import portrait, voice

__all__ = ["portrait", "voice"]
