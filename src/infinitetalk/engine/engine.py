"""The engine: a request in, finished windows of frames out."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor

from infinitetalk.core.control import TimedPrompt, prompt_at
from infinitetalk.core.defaults import Settings, resolve
from infinitetalk.core.errors import ModelError, RequestError
from infinitetalk.core.live import check_live, check_rate, resolve_live
from infinitetalk.core.loras import Lora, read_loras
from infinitetalk.core.memory import Lodging, MemorySettings
from infinitetalk.core.ranks import guidance_groups
from infinitetalk.core.request import TalkRequest
from infinitetalk.core.sizes import FPS, SAMPLE_RATE, Latents
from infinitetalk.core.stages import Stage
from infinitetalk.core.windows import Window, frames_of
from infinitetalk.engine.codec import latent_count
from infinitetalk.engine.denoise import Conditions, Script, passes
from infinitetalk.engine.failures import finite, machine_errors
from infinitetalk.engine.finish import Finish
from infinitetalk.engine.keyframes import KeyFrames, condition
from infinitetalk.engine.live import LiveChunk, LiveTalk
from infinitetalk.engine.model import Model
from infinitetalk.engine.noise import window_noise
from infinitetalk.engine.outline import handed_on, longest, prompts, units
from infinitetalk.engine.progress import Progress, StageClock
from infinitetalk.engine.protocols import (
    Inputs,
    MediaSource,
    NoiseSource,
    SpeechSource,
    TextSource,
    VisionSource,
    Waveform,
)
from infinitetalk.engine.readings import Readings
from infinitetalk.engine.results import Clip, Past, Resume, WindowResult
from infinitetalk.engine.seams import crossfade, soften
from infinitetalk.engine.shared import load_shared
from infinitetalk.engine.tasks import Decode, Denoise, Encode, EncodeStill, Station
from infinitetalk.engine.voices import CONTEXT, MirroredVoices, PaddedVoices, TemperedVoices, Voices
from infinitetalk.media.arriving import at_speech_rate
from infinitetalk.media.bystanders import with_silence
from infinitetalk.media.color import match_colors
from infinitetalk.media.cutting import plan_windows
from infinitetalk.media.drift import measure_drift
from infinitetalk.media.fit import Focus
from infinitetalk.media.framing import frame_faces
from infinitetalk.media.people import People
from infinitetalk.runtime.device import Device
from infinitetalk.runtime.fetch import fetch
from infinitetalk.runtime.guard import at_work
from infinitetalk.runtime.heap import give_back
from infinitetalk.weights.folder import ModelFolder

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    """What stays the same from window to window."""

    request: TalkRequest
    settings: Settings
    windows: tuple[Window, ...]
    keys: KeyFrames
    voices: Voices
    people: People
    finish: Finish
    texts: Mapping[str, Tensor]
    """Every prompt of the job, as the network reads it; empty if it does not read."""
    script: Script
    groups: int
    """Groups of processes, each for its branches of guidance."""


class Engine:
    """Makes talking videos with one model.

    Args:
        model: networks, and the encoders that came with them.
        media: opens what a request names; files by default.
        text: replaces the model's text encoder, with precomputed features say.
        vision: replaces its picture encoder.
        speech: replaces its speech encoder.
        noise: replaces the seeded starting noise.

    Raises:
        ModelError: an encoder that the model needs and nobody gave.
    """

    def __init__(
        self,
        model: Model,
        *,
        media: MediaSource | None = None,
        text: TextSource | None = None,
        vision: VisionSource | None = None,
        speech: SpeechSource | None = None,
        noise: NoiseSource | None = None,
    ) -> None:
        config, name = model.dit.config, model.facts.name
        self.model = model
        self._station = Station(model, model.crew.all)
        self._station.share()
        self._media = media
        self._noise = noise or window_noise
        self._speech = _needed(speech or model.speech, name, "speech")
        self._text = Readings(_needed(text or model.text, name, "text")) if config.text_dim else None
        self._vision = _needed(vision or model.vision, name, "picture") if config.clip_dim else None

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | ModelFolder,
        device: str = "auto",
        dtype: str = "auto",
        progress: Progress | None = None,
        *,
        loras: Sequence[Lora | str | Path] = (),
        encoder: str | None = None,
        memory: MemorySettings | None = None,
        lodging: Lodging | None = None,
    ) -> Self:
        """Loads a bundled or downloaded model by name, a model folder by path or one that is open, with LoRAs or not.

        `encoder` replaces the speech encoder of a model that is not open yet, as `TalkRequest.encoder` names it.
        `memory` says where weights may live, what computes attention and how many GPUs share the work, `lodging` where
        weights do live: a plan is made unless it is given. Other GPUs have processes of their own, which end with this
        one or by `engine.model.close()`.

        Raises:
            ModelError: a folder that lacks a part, weights or a LoRA that do not fit.
            RequestError: a name that no device has, or an attention back end that cannot serve here.
            MachineError: a device that cannot be used, or memory that is too small.
        """
        folder = name if isinstance(name, ModelFolder) else ModelFolder.open(name, encoder)
        chosen = Device.choose(device, dtype)
        with at_work(chosen), machine_errors(chosen.torch_device, "loading this model"):
            return cls(load_shared(folder, chosen, progress, read_loras(loras), memory=memory, lodging=lodging))

    def generate(self, request: TalkRequest, progress: Progress | None = None) -> Clip:
        """Makes a whole video in memory, of the rate and size asked for; see `stream` for videos of any length."""
        rate, windows = Fraction(FPS), list[Tensor]()
        for window in self.stream(request, progress):
            rate = window.rate
            windows.append(window.finished())
        return Clip(torch.cat(windows, dim=1), rate)

    def stream(
        self, request: TalkRequest, progress: Progress | None = None, resume: Resume | None = None
    ) -> Generator[WindowResult, None, None]:
        """Makes a video, window after window; memory holds one window, however long the video is.

        Frames come at 25 a second and the model's size; `WindowResult.pictures` makes what the request asks for.

        No stage of `progress` is open between windows, so the time that the caller takes is the caller's.

        Args:
            request: what to make.
            progress: listens.
            resume: where to go on, of the same request, model and device: the windows are those of a whole run.

        Raises:
            RequestError: a request that this model or these files cannot follow.
            MediaError: a file that cannot be used.
            MachineError: memory that is too small, or a device that stops working.
        """
        _check_loaded(request, self.model)
        listener = StageClock(progress)
        past = None if resume is None else resume.past.to(self.model.device)
        begin = 0 if resume is None else resume.window

        def failed() -> str | None:
            return None if listener.failed is None else listener.failed.value

        with machine_errors(self.model.device, "making a window of this size", failed), ExitStack() as files:
            with self._at_work():
                job = self._prepare(request, listener, files, begin)
            for window in job.windows[begin:]:
                with self._at_work():
                    result = self._make(job, window, None if window.starts_shot else past, listener)
                    result = job.finish.attach(result, window, past, listener)
                past = result.past
                yield result
                del result  # the caller may have let go of it, so that one window at a time is in memory
                give_back()

    def live(
        self,
        request: TalkRequest,
        sound: Iterable[Waveform],
        rate: int = SAMPLE_RATE,
        progress: Progress | None = None,
    ) -> Generator[LiveChunk, None, None]:
        """Makes frames while sound arrives: a chunk of them as soon as its last sample is there.

        The recipe is SoulX-FlashTalk's: 33 frames at a time, the first 5 of which repeat the chunk before; four steps;
        sound encoded over the last 8 seconds. The first chunk starts from the portrait. The last one is filled up with
        silence and cut to the length of the sound. Memory does not grow. Chunks depend on the sound, not on how it was
        cut into pieces.

        Args:
            request: a portrait and settings. The file that `audio` names is not opened.
            sound: mono samples in pieces of any size, [n] floats of full scale 1. Asked for the next piece when the one
                before is used up; where it ends, the video ends.
            rate: samples per second, 8000 to 192000.

        Raises:
            RequestError: at once, a request or rate that cannot work; later, a piece of sound.
            MediaError: a picture that cannot be used.
            MachineError: as `stream`.
        """
        check_live(request, self.model.facts)
        check_rate(rate)
        _check_loaded(request, self.model)
        return self._live(request, at_speech_rate(sound, rate), progress or StageClock())

    def _live(
        self, request: TalkRequest, sound: Iterable[Waveform], listener: Progress
    ) -> Generator[LiveChunk, None, None]:
        with machine_errors(self.model.device, "making chunks of this size"), ExitStack() as files:
            with self._at_work():
                talk = self._prepare_live(request, listener, files)
            for heard in talk.listen(sound):
                with self._at_work():
                    chunk = talk.make(heard)
                yield chunk
                del chunk

    @torch.inference_mode()
    def _prepare_live(self, request: TalkRequest, listener: Progress, files: ExitStack) -> LiveTalk:
        """Opens the portrait and encodes what holds for the whole talk, before the first sample arrives."""
        with listener.stage(Stage.FEATURE_EXTRACTION):
            self._advise(listener)
            inputs = self._portrait_source().open(request)
            files.enter_context(inputs.files)
            settings = resolve_live(request, self.model.facts, inputs.source.size)
            texts = self._read(settings)
            focus = _focus(request, inputs, listener)
        script, groups = Script(self.model.dit), self._groups(request, settings)
        return LiveTalk(
            request=request,
            settings=settings,
            script=script,
            keys=self._keys(request, settings, inputs, (Window(0, 0, settings.window_frames, 0, 0),), focus),
            prompt=texts.get(settings.prompt),
            negative=texts.get(settings.negative_prompt),
            speech=self._speech,
            company=self.model.crew,
            station=self._station,
            decode=self._decode,
            denoise=lambda noise, told: self._steps(
                Denoise(script.number, noise, told, request, settings, groups, live=True), script
            ),
            noise=self._noise,
            device=self.model.device,
            listener=listener,
        )

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """What the networks work in: kernels that the device has, other processes that do not fail. Never open while
        the caller has its turn."""
        with ExitStack() as closing:
            closing.enter_context(self.model.crew.watching())
            if self.model.runs_on is not None:
                closing.enter_context(at_work(self.model.runs_on))
            yield

    def _groups(self, request: TalkRequest, settings: Settings) -> int:
        """How many groups of processes share the branches of guidance."""
        heads, branches = self.model.dit.config.num_heads, len(passes(request, settings))
        return guidance_groups(self.model.crew.size, heads, branches, self.model.guidance_split)

    def _steps(self, task: Denoise, script: Script) -> Iterator[Tensor]:
        """The latent after each step, by all processes."""
        with self.model.crew.together(task):
            yield from task.steps(self._station, script)

    @torch.inference_mode()
    def _prepare(self, request: TalkRequest, listener: Progress, files: ExitStack, begin: int) -> _Job:
        """Opens the files, to be closed with `files`, and encodes what holds for all windows from `begin` on."""
        with listener.stage(Stage.AUDIO_ENCODING):
            self._advise(listener)
            inputs = self._media_source().open(request)
            files.enter_context(inputs.files)
            request, inputs = with_silence(request, self.model.facts, inputs)
            settings = resolve(request, self.model.facts, inputs.source.size, inputs.rate)
            if self._text is not None:
                self._text.begin(prompts(settings, request.prompts))
            windows = planned = plan_windows(request, settings, inputs)
            # Planned and heard whole even for a preview, so that it is exactly how the whole video begins.
            voices = self._voices(request, inputs, windows)
            windows = windows[:1] if request.preview else windows
            listener.plan(units(windows[begin:], settings, voices) | {Stage.ASSEMBLY: len(windows)})
            if settings.rate == FPS:
                listener.skip(Stage.INTERPOLATION)
            listener.advance()
        if begin:
            with listener.stage(Stage.ASSEMBLY):
                listener.advance(begin)
        with listener.stage(Stage.FEATURE_EXTRACTION):
            focus = _focus(request, inputs, listener)
            people = People(request, inputs.masks, settings.size, focus, self.model.facts.max_people)
            if begin:
                people.begin(inputs.source.frame_at(0.0))
            finish = Finish(request, settings, inputs, planned, focus=focus, files=files, listener=listener)
            texts = self._read(settings, request.prompts)
            listener.advance()
        keys = self._keys(request, settings, inputs, windows, focus)
        script, groups = Script(self.model.dit), self._groups(request, settings)
        return _Job(request, settings, windows, keys, voices, people, finish, texts, script, groups)

    def _advise(self, listener: Progress) -> None:
        if self.model.facts.encoder_advice:
            listener.note(self.model.facts.encoder_advice)

    def _media_source(self) -> MediaSource:
        if self._media is not None:
            return self._media
        from infinitetalk.media.files import FileMedia

        return FileMedia()

    def _portrait_source(self) -> MediaSource:
        if self._media is not None:
            return self._media
        from infinitetalk.media.files import PortraitMedia

        return PortraitMedia()

    def _voices(self, request: TalkRequest, inputs: Inputs, windows: tuple[Window, ...]) -> Voices:
        width = self.model.dit.config.audio_window
        if request.reference:
            return MirroredVoices(self._speech, inputs.voices, width=width)
        end = windows[-1].end + width // 2
        # A voice that is cut short is still heard as the running speech that it is.
        further = min(windows[-1].end + CONTEXT, max(frames_of(len(wave)) for wave in inputs.voices))
        heard = PaddedVoices(
            self._speech,
            inputs.voices,
            frames=max(end, further),
            width=width,
            reach=longest(windows) + width // 2,
        )
        return TemperedVoices(heard, self._speech, request.audio_strength) if request.audio_strength else heard

    def _keys(
        self,
        request: TalkRequest,
        settings: Settings,
        inputs: Inputs,
        windows: tuple[Window, ...],
        focus: Focus | None,
    ) -> KeyFrames:
        return KeyFrames(
            inputs.source,
            self._encode,
            lambda picture, frames: self._together(EncodeStill(picture, frames)),
            self._vision,
            size=settings.size,
            framing=request.framing,
            focus=focus,
            frames=longest(windows),
            reference=request.reference,
            timeline=inputs.timeline,
            overlap=settings.motion_frames + settings.overlap_frames,
            footage=settings.first_step > 0,
            watched=request.watches_light,
            device=self.model.device,
        )

    def _read(self, settings: Settings, timed: Sequence[TimedPrompt] = ()) -> Mapping[str, Tensor]:
        """All prompts as the network reads them."""
        if self._text is None:
            return {}
        texts = prompts(settings, timed)
        return {text: read.to(self.model.device) for text, read in zip(texts, self._text.encode(texts), strict=True)}

    @torch.inference_mode()
    def _make(self, job: _Job, window: Window, past: Past | None, listener: Progress) -> WindowResult:
        """Makes one window: a function of the job, the window and the frames before it."""
        told, pixels, light_stays = self._conditions(job, window, past, listener)
        latent = self._denoise(job, window, told, listener)
        with listener.stage(Stage.LIP_SYNC):
            first = pixels if past is None else past.first
            made = self._decode(latent[None])[0]
            colors = color_reference(job.request, first, pixels)[0]
            strength = job.settings.color_strength if light_stays else 0.0
            video = match_colors(made, colors, strength, fused=self.model.vae.pixels.fused)
            if past is not None and window.keep_from:
                video = soften(video, past.tail[0], window.keep_from, job.settings.seam_frames)
            if past is not None and past.spare is not None:
                video = crossfade(video, past.spare[0], window.keep_from)
            end = window.keep_from + window.keep
            before = None if past is None else past.tail[0][:, -1]
            drift = measure_drift(made, video, colors, strength, new=slice(window.keep_from, end), before=before)
            result = WindowResult(
                index=window.index,
                count=len(job.windows),
                first_frame=window.first_frame,
                frames=fetch(finite(video[:, window.keep_from : end], window.index)),
                latent=latent.cpu(),
                condition=told.condition.cpu(),
                before=None if before is None else before.cpu(),
                ends_shot=all(later.starts_shot for later in job.windows[window.index + 1 : window.index + 2]),
                past=handed_on(first, video[None], end, job.settings),
                drift=drift,
            )
            listener.advance()
        return result

    def _conditions(
        self, job: _Job, window: Window, past: Past | None, listener: Progress
    ) -> tuple[Conditions, Tensor, bool]:
        """What the network is told of a window, the pixels of its key frame, and whether the source's light stays."""
        with listener.stage(Stage.AUDIO_ENCODING):
            job.keys.begin(window)
            heard = job.voices.load(window)
            if heard:
                give_back()
            listener.advance(heard)
        with listener.stage(Stage.FEATURE_EXTRACTION):
            audio = job.voices.hear(window).to(self.model.device)
            places = job.people.at(job.keys.seconds(window), job.keys.frame(window))
            places = None if places is None else places.to(self.model.device)
            pixels = job.keys.pixels(window)
            clip = job.keys.tokens(pixels)
            listener.advance()
        with listener.stage(Stage.KEY_FRAMES):
            key = job.keys.latent(pixels)
            motion = key[:, :1] if past is None or window.starts_anew else self._encode(past.tail)[0]
            moving = job.keys.moving(window)
            listener.advance()
        picture = condition(key, latent_count(window.length), job.settings.motion)
        middle = (window.first_frame + window.keep / 2) / FPS
        prompt = job.texts.get(prompt_at(job.request.prompts, middle, job.settings.prompt))
        negative = job.texts.get(job.settings.negative_prompt)
        told = Conditions(picture, motion, audio, places, prompt, negative, clip, moving.latents)
        return told, pixels, moving.light_stays

    def _denoise(self, job: _Job, window: Window, told: Conditions, listener: Progress) -> Tensor:
        """The finished latent [16, T, h, w] of a window."""
        with listener.stage(Stage.DENOISING):
            shape = (told.motion.shape[0], *Latents.of(window.length, job.settings.size))
            latent = noise = self._noise(job.request.seed, window.index, shape).to(self.model.device)
            task = Denoise(job.script.number, noise, told, job.request, job.settings, job.groups)
            for step in self._steps(task, job.script):
                latent = step
                listener.advance()
            return latent

    def _encode(self, video: Tensor) -> Tensor:
        return self._together(Encode(video))

    def _decode(self, latent: Tensor) -> Tensor:
        return self._together(Decode(latent))

    def _together(self, task: Encode | EncodeStill | Decode) -> Tensor:
        with self.model.crew.together(task):
            return task.run(self._station)


def color_reference(request: TalkRequest, first: Tensor, current: Tensor) -> Tensor:
    """Whose colours a window takes: its own key frame's; the reference always takes the first window's."""
    return first if request.reference else current


def _check_loaded(request: TalkRequest, model: Model) -> None:
    """Refuses a request for another encoder or other LoRAs than those that the networks were loaded with."""
    if request.encoder != model.facts.encoder:
        held = model.facts.encoder or "the model's own"
        need = f"this engine was loaded with {held}; load one with encoder=request.encoder"
        raise RequestError("encoder", request.encoder or "the model's own", need)
    if request.loras != model.loras:
        named, held = (", ".join(map(str, loras)) or "none" for loras in (request.loras, model.loras))
        raise RequestError("loras", named, f"this engine was loaded with {held}; load one with loras=request.loras")


def _focus(request: TalkRequest, inputs: Inputs, listener: Progress) -> Focus | None:
    """What framing keeps; says so where it could not look for faces."""
    framing = frame_faces(request, inputs.source)
    if framing.note:
        listener.note(framing.note)
    return framing.focus


def _needed(source: T | None, model: str, name: str) -> T:
    """Refuses a missing encoder."""
    if source is None:
        raise ModelError(f"the model {model} needs a {name} encoder, and none was given")
    return source
