"""Talking videos of any length from a portrait or a video and a voice.

>>> from infinitetalk import Engine, TalkRequest
>>> engine = Engine.from_pretrained("nano")
>>> for window in engine.stream(TalkRequest(image=Path("face.png"), audio=(Path("voice.wav"),))):
...     show(window.rgb())

Names are loaded when they are first used, so that importing the package stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infinitetalk.core.errors import InfiniteTalkError, MachineError, MediaError, ModelError, RequestError
    from infinitetalk.core.loras import Lora
    from infinitetalk.core.request import Box, TalkRequest
    from infinitetalk.engine.engine import Engine
    from infinitetalk.engine.results import Clip, WindowResult

    __version__: str

_HOMES = {
    "Box": "core.request",
    "Clip": "engine.results",
    "Engine": "engine.engine",
    "InfiniteTalkError": "core.errors",
    "Lora": "core.loras",
    "MachineError": "core.errors",
    "MediaError": "core.errors",
    "ModelError": "core.errors",
    "RequestError": "core.errors",
    "TalkRequest": "core.request",
    "WindowResult": "engine.results",
}

__all__ = [
    "Box", "Clip", "Engine", "InfiniteTalkError", "Lora", "MachineError", "MediaError", "ModelError", "RequestError",
    "TalkRequest", "WindowResult", "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from infinitetalk.core.version import own_version

        return own_version()
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
