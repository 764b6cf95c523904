"""The nodes. They make requests and hand them to the engine; no node computes anything itself."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from infinitetalk.core.errors import InfiniteTalkError, RequestError
from infinitetalk.core.knobs import from_form
from infinitetalk.core.memory import MemorySettings
from infinitetalk.engine.board import Board
from infinitetalk.engine.job import prepare
from infinitetalk.media.paths import job_path

from . import exchange, models, widgets

CATEGORY = "InfiniteTalk"
MODEL, VOICES, PEOPLE, SETTINGS = (
    "INFINITETALK_MODEL",
    "INFINITETALK_VOICES",
    "INFINITETALK_PEOPLE",
    "INFINITETALK_SETTINGS",
)
FILENAMES = "VHS_FILENAMES"
"""The type that Video Helper Suite's nodes pass on: whether the files were saved, and their paths."""
MOST_PEOPLE = 3

P = ParamSpec("P")
R = TypeVar("R")


class NodeError(Exception):
    """What a node refuses, in one sentence."""


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a node fail with the product's own sentence, and nothing of what led to it."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (InfiniteTalkError, ValueError) as error:
            raise NodeError(str(error)) from None

    return told


class ModelLoader:
    """A model: bundled, downloaded, a folder in models/infinitetalk, or files in ComfyUI's own folders."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    DESCRIPTION = "Chooses a model. Its files are looked at here; weights are loaded when the sampler needs them."
    RETURN_TYPES, RETURN_NAMES = (MODEL,), ("model",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tip = f"for '{models.FILES}' alone; {models.SEARCHED}: where weights usually lie"
        parts = {part: ([models.SEARCHED, *sorted(models.files(part))], {"tooltip": tip}) for part in models.PARTS}
        return {
            "required": {"model": (models.names(), {"tooltip": "a whole model, or single files"})},
            "optional": parts | widgets.widgets(("loras", *widgets.MEMORY)),
        }

    @plain
    def load(self, model: str, loras: str = "", **chosen: Any) -> tuple[models.Model]:
        """The model, looked at."""
        import comfy.model_management

        memory = MemorySettings(**widgets.given(chosen, [name for name in widgets.MEMORY if name in chosen]))
        parts = {part: chosen[part] for part in models.PARTS if part in chosen}
        return (models.load(model, parts, memory, loras, str(comfy.model_management.get_torch_device())),)


class AudioEncoder:
    """Voices, and what hears them."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    DESCRIPTION = "Voices, one per person from left to right, and how they are heard, window by window, by wav2vec2."
    RETURN_TYPES, RETURN_NAMES = (VOICES,), ("voices",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The links and widgets."""
        more = {f"audio_{number}": ("AUDIO",) for number in range(2, MOST_PEOPLE + 1)}
        return {
            "required": {"audio_1": ("AUDIO",)},
            "optional": more | widgets.widgets(("encoder", *widgets.SOUND)),
        }

    @plain
    def encode(self, audio_1: Any, **values: Any) -> tuple[dict[str, Any]]:
        """The fields of the request that say what is heard."""
        sounds = [audio_1, *(values.get(f"audio_{number}") for number in range(2, MOST_PEOPLE + 1))]
        paths = [exchange.sound(one).as_posix() for one in sounds if one is not None]
        fields = ("encoder", *widgets.SOUND)
        return ({"audio": paths} | widgets.given(values, [name for name in fields if name in values]),)


class PeopleMasks:
    """Where the people are."""

    CATEGORY, FUNCTION = CATEGORY, "place"
    DESCRIPTION = "Places of the people in the voices' order, as masks or boxes. Without it faces are looked for."
    RETURN_TYPES, RETURN_NAMES = (PEOPLE,), ("people",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The links and widgets."""
        masks = {f"mask_{number}": ("MASK",) for number in range(1, MOST_PEOPLE + 1)}
        return {"required": widgets.widgets(("boxes",)), "optional": masks}

    @plain
    def place(self, boxes: str, **values: Any) -> tuple[dict[str, Any]]:
        """The fields of the request that say where people are."""
        given = [values.get(f"mask_{number}") for number in range(1, MOST_PEOPLE + 1)]
        masks = [exchange.mask(one).as_posix() for one in given if one is not None]
        return ({"boxes": boxes, "masks": masks},)


class Settings:
    """All other settings."""

    CATEGORY, FUNCTION = CATEGORY, "settle"
    DESCRIPTION = "Everything else that a video's request may say; what is left alone is the model's own."
    RETURN_TYPES, RETURN_NAMES = (SETTINGS,), ("settings",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {"required": widgets.widgets(widgets.FURTHER)}

    def settle(self, **values: Any) -> tuple[dict[str, Any]]:
        """The fields of the request."""
        return (widgets.given(values, widgets.FURTHER),)


@dataclass(frozen=True)
class Asked:
    """Which of the sampler's outputs somebody uses; frames of long videos would fill the memory for nothing."""

    prompt: Any
    node: str

    def outputs(self) -> set[int]:
        """Numbers of the outputs that links start from."""
        inputs = [value for node in self.prompt.values() for value in node["inputs"].values()]
        return {value[1] for value in inputs if isinstance(value, list) and value[:1] == [self.node]}


class TalkSampler:
    """Makes the video."""

    CATEGORY, FUNCTION = CATEGORY, "sample"
    DESCRIPTION = (
        "Makes a talking video of any length, window by window, from a picture or a video. Memory does not grow with "
        "the length unless 'images' is used. Interrupt it and queue it again: it goes on where it stopped."
    )
    RETURN_TYPES: ClassVar = ("VIDEO", "IMAGE", "AUDIO", "FLOAT")
    RETURN_NAMES: ClassVar = ("video", "images", "audio", "frame_rate")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The links and widgets."""
        links = {"image": ("IMAGE",), "video": ("VIDEO",), "people": (PEOPLE,), "settings": (SETTINGS,)}
        return {
            "required": {"model": (MODEL,), "voices": (VOICES,)} | widgets.widgets(widgets.MAIN),
            "optional": links,
            "hidden": {"prompt_graph": "PROMPT", "node": "UNIQUE_ID"},
        }

    @plain
    def sample(self, model: models.Model, voices: Any, prompt_graph: Any = None, node: str = "", **values: Any) -> Any:
        """A file, and what is asked for of its content."""
        from comfy_api.input_impl import VideoFromFile

        video = VideoFromFile(str(self._made(model, self._fields(model, voices, values))))
        asked = Asked(prompt_graph or {}, node).outputs()
        if not asked & {1, 2, 3}:
            return (video, None, None, None)
        parts = video.get_components()
        return (video, parts.images, parts.audio, float(parts.frame_rate))

    def _fields(self, model: models.Model, voices: Any, values: Any) -> dict[str, Any]:
        image, video = values.get("image"), values.get("video")
        if (image is None) == (video is None):
            held = "nothing" if image is None else "both"
            raise RequestError("image", held, "connect a picture to 'image' or a video to 'video', exactly one of them")
        source = {"image": exchange.picture(image)} if image is not None else {"video": exchange.footage(video)}
        return {
            "model": model.name,
            "loras": model.loras,
            **{name: path.as_posix() for name, path in source.items()},
            **voices,
            **(values.get("people") or {}),
            **(values.get("settings") or {}),
            **widgets.given(values, widgets.MAIN),
        }

    def _made(self, model: models.Model, fields: dict[str, Any]) -> Path:
        """The finished file; of an interrupted job the windows that were finished are kept."""
        import comfy.model_management as management
        from comfy.utils import ProgressBar

        from infinitetalk.cli.generate import free_name

        request = from_form(fields)
        job = prepare(request, free_name(request, exchange.folder("videos")))
        management.unload_all_models()
        management.soft_empty_cache()
        bar = ProgressBar(exchange.Watch.STEPS)
        watch = exchange.Watch(job_path(job.output), bar, management.throw_exception_if_processing_interrupted)
        return model.workshop.make(job, Board(changed=watch)).video


class VideoCombine:
    """Saves a video."""

    CATEGORY, FUNCTION, OUTPUT_NODE = CATEGORY, "combine", True
    DESCRIPTION = "Saves a video as it is, or frames with sound; its output is Video Helper Suite's list of files."
    RETURN_TYPES, RETURN_NAMES = (FILENAMES,), ("Filenames",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The links and widgets."""
        return {
            "required": {
                "frame_rate": ("FLOAT", {"default": 25.0, "min": 1.0, "max": 240.0, "step": 0.01,
                                         "tooltip": "of frames from 'images'; a video keeps its own"}),
                "filename_prefix": ("STRING", {"default": "InfiniteTalk"}),
                "save_output": ("BOOLEAN", {"default": True, "tooltip": "output folder, not the temporary one"}),
            },
            "optional": {"video": ("VIDEO",), "images": ("IMAGE",), "audio": ("AUDIO",)},
        }  # fmt: skip

    @plain
    def combine(
        self, *, frame_rate: float, filename_prefix: str, save_output: bool, video: Any = None, images: Any = None,
        audio: Any = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The file in ComfyUI's output folder, shown below the node."""
        import folder_paths

        if (video is None) == (images is None):
            held = "nothing" if video is None else "both"
            raise RequestError("video", held, "connect 'video' or 'images', exactly one of them")
        home = folder_paths.get_output_directory() if save_output else folder_paths.get_temp_directory()
        found = folder_paths.get_save_image_path(filename_prefix, home)
        target, name, counter, below = Path(found[0]), found[1], found[2], found[3]
        path = target / f"{name}_{counter:05}_.mp4"
        if video is None:
            _write(path, images, audio, frame_rate)
        elif isinstance(source := video.get_stream_source(), str) and source.endswith(".mp4"):
            shutil.copyfile(source, path)
        else:
            video.save_to(str(path))
        kind = "output" if save_output else "temp"
        shown = {"filename": path.name, "subfolder": below, "type": kind}
        more = {"format": "video/h264-mp4", "frame_rate": frame_rate, "fullpath": str(path)}
        ui = {"gifs": [shown | more], "images": [shown], "animated": (True,)}
        return {"ui": ui, "result": ((save_output, [str(path)]),)}


def _write(path: Path, images: Any, audio: Any, frame_rate: float) -> None:
    from fractions import Fraction

    from comfy_api.input_impl import VideoFromComponents
    from comfy_api.util import VideoComponents

    rate = Fraction(frame_rate).limit_denominator(1001)
    VideoFromComponents(VideoComponents(images=images, audio=audio, frame_rate=rate)).save_to(str(path))


models.register()

NODE_CLASS_MAPPINGS = {
    "InfiniteTalkModelLoader": ModelLoader,
    "InfiniteTalkAudioEncoder": AudioEncoder,
    "InfiniteTalkPeopleMasks": PeopleMasks,
    "InfiniteTalkSettings": Settings,
    "InfiniteTalkTalkSampler": TalkSampler,
    "InfiniteTalkVideoCombine": VideoCombine,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "InfiniteTalkModelLoader": "InfiniteTalk Model Loader",
    "InfiniteTalkAudioEncoder": "InfiniteTalk Audio Encoder",
    "InfiniteTalkPeopleMasks": "InfiniteTalk People Masks",
    "InfiniteTalkSettings": "InfiniteTalk Settings",
    "InfiniteTalkTalkSampler": "InfiniteTalk Talk Sampler",
    "InfiniteTalkVideoCombine": "InfiniteTalk Video Combine",
}
