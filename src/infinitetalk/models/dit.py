"""The audio-driven diffusion transformer: noisy latents, a condition, sound, text and a picture → velocity.

Parameter names are those of the original checkpoints (Wan 2.1 image-to-video with InfiniteTalk's audio layers).
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infinitetalk.core.configs import KEY_FRAMES, DiTConfig
from infinitetalk.core.errors import ModelError
from infinitetalk.models.audio_attention import AudioProjection
from infinitetalk.models.dit_blocks import Attended, Block, CrossAttention, Head, Setting, Told, Use, velocities
from infinitetalk.models.layers import KeysValues, Linear, RMSNorm, in_float32, sinusoid
from infinitetalk.ops.attention import Kernel, sdpa
from infinitetalk.ops.attention_eight import exact_of
from infinitetalk.ops.parallel import ALONE, Parallel
from infinitetalk.ops.regions import Known, Regions
from infinitetalk.ops.replay import Replay
from infinitetalk.ops.rope import Grid, Rotation, video_rotation

Prepared = tuple[KeysValues, ...]
"""Keys and values of one input, per block."""

Lender = Callable[[Use], Iterable[Block]]
"""Gives all blocks in order, each with the weights of one use at hand until the next one is asked for."""


class Sound(NamedTuple):
    """A sound, prepared for every block, and where its people are (see `Told`).

    Silence is the same in all latent frames but the first, so its keys and values are those of two frames, and the
    second one is repeated `frames` - 1 times when a block asks. Frames are those of the own tokens.
    """

    prepared: Prepared
    places: Tensor | None
    frames: int | None = None

    def at(self, index: int) -> KeysValues:
        """Keys and values of one block, [B, T, S, heads, d]."""
        known = self.prepared[index]
        return known if self.frames is None else KeysValues(*(_repeated(part, self.frames) for part in known))


class Words(NamedTuple):
    """A text, prepared for every block.

    Blocks read texts of one length. What pads a text to it is one token over and over, so its keys and values are kept
    once, behind those of the text, and count so many times: most prompts are short.
    """

    prepared: Prepared
    length: int

    def at(self, index: int) -> Known:
        """Keys and values of one block."""
        known = self.prepared[index]
        return Known(*known, last=self.length - known.keys.shape[1] + 1)


class Branch(NamedTuple):
    """What the network is told in one branch of guidance."""

    text: Words | None
    picture: Prepared | None
    sound: Sound

    def at(self, index: int) -> Told:
        """What one block is told."""
        text = None if self.text is None else self.text.at(index)
        picture = None if self.picture is None else Known(*self.picture[index])
        return Told(text, picture, self.sound.at(index), self.sound.places)


Given = tuple[tuple[Tensor, Tensor], tuple[Tensor, tuple[Branch, ...], Rotation]]
"""Latents and timestep, and what the network is told besides: condition, branches and where the own tokens are."""


class Added:
    """What the blocks added to the tokens the last times that they were asked, branch by branch: for steps that do not
    ask them. One belongs to the steps of one window; its branches come in one order.

    Args:
        times: how many times are kept, 1 or 2.
    """

    def __init__(self, times: int = 1) -> None:
        self._times = times
        self._before: Tensor | None = None
        self._kept: list[list[Tensor]] = []

    def begin(self, tokens: Tensor) -> None:
        """Takes what goes into the blocks, [B, L, dim], and gives memory back that is not needed any more."""
        self._before = tokens
        self._kept = self._kept[: self._times - 1]

    def finish(self, tokens: Sequence[Tensor]) -> None:
        """Takes what came out of the blocks in each branch, and the memory of it."""
        assert self._before is not None
        self._kept.insert(0, [after.sub_(self._before) for after in tokens])
        self._before = None

    def onto(self, tokens: Tensor, ahead: float) -> Iterator[Tensor]:
        """What would come out of the blocks in each branch.

        Args:
            tokens: what would go in, [B, L, dim].
            ahead: how far what they add goes on as it went between the last two times, 1 for as far again.
        """
        if len(self._kept) < (2 if ahead else 1):
            raise ValueError("the blocks were not asked often enough")
        for number, added in enumerate(self._kept[0]):
            yield added.lerp(self._kept[1][number], -ahead).add_(tokens) if ahead else tokens + added


class PictureProjection(nn.Module):
    """Vision tokens [B, clip_tokens, clip_dim] → [B, clip_tokens, dim]."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        width = config.clip_dim
        self.proj = nn.Sequential(
            nn.LayerNorm(width),
            Linear(width, width),
            nn.GELU(),
            Linear(width, config.dim),
            nn.LayerNorm(config.dim),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.proj(tokens)
        return projected


class AudioDiT(nn.Module):
    """Predicts the velocity of a latent video from its noisy state. All sizes come from the configuration."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        if config.dim % config.num_heads or config.dim // config.num_heads % 2:
            raise ModelError(f"dim {config.dim} must be an even number for each of {config.num_heads} heads")
        if config.key_frame not in KEY_FRAMES:
            raise ModelError(f"key_frame {config.key_frame!r} must be one of {', '.join(KEY_FRAMES)}")
        self.config = config
        dim = config.dim
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, config.patch_size, config.patch_size)
        self.text_embedding: nn.Sequential | None = None
        if config.text_dim:
            self.text_embedding = nn.Sequential(
                Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), Linear(dim, dim)
            )
        self.time_embedding = nn.Sequential(Linear(config.freq_dim, dim), nn.SiLU(), Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), Linear(dim, dim * 6))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        self.img_emb = PictureProjection(config) if config.clip_dim else None
        self.audio_proj = AudioProjection(config)
        self.frames_at_once: int | None = None
        """Latent frames whose tokens pass through a block's linear layers together: fewer take less memory. Not for
        training."""
        self.attend_by: Kernel = sdpa
        """What computes all attention."""
        self.parallel: Parallel = ALONE
        """With whom the tokens are shared: then all of them ask for the same at the same time."""
        self.regions = Regions()
        """What computes all that lies between products."""
        self.replay: Replay | None = None
        """What records and replays passes. Not for training."""
        self._lender: Lender | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the matrix products."""
        return self.patch_embedding.weight.dtype

    def forward(
        self,
        latent: Tensor,
        timestep: Tensor,
        *,
        condition: Tensor,
        audio: Tensor,
        masks: Tensor | None = None,
        text: Tensor | None = None,
        clip: Tensor | None = None,
    ) -> Tensor:
        """One evaluation of the network in one go: all inputs are prepared, then `evaluate` is asked.

        Args:
            latent: noisy latents [B, 16, T, h, w].
            timestep: 0 to 1000, a scalar or [B].
            condition: 4 mask channels and 16 latent channels [B, 20, T, h, w].
            audio: speech features around every video frame [B, P, F, window, blocks, channels], F = 4 (T - 1) + 1;
                without the first axis for B = 1.
            masks: latent cells that show each person and, last, the background: [B, P + 1, h, w], without the first
                axis for B = 1. Needed for several people, ignored for one.
            text: [B, L, text_dim], L at most text_len; shorter texts are padded with zeros.
            clip: vision tokens [B, clip_tokens, clip_dim].

        Returns:
            velocity [B, out_dim, T, h, w] float32.

        Raises:
            ModelError: an input that this network needs is missing, or it has no part for one that is given.
        """
        (read,) = self.prepare_texts([text])
        (heard,) = self.prepare_sounds([(audio, masks)], self.grid(latent))
        told = Branch(read, self.prepare_picture(clip), heard)
        return self.evaluate(latent, timestep, condition=condition, branches=[told])[0]

    def evaluate(
        self,
        latent: Tensor,
        timestep: Tensor,
        *,
        condition: Tensor,
        branches: Sequence[Branch],
        added: Added | None = None,
        ahead: float | None = None,
        exact_blocks: int = 0,
    ) -> list[Tensor]:
        """Asks the network about the same latents in several branches, block by block: each block is needed once.

        Args:
            latent, timestep, condition: as `forward` takes them.
            branches: what `prepare_texts`, `prepare_picture` and `prepare_sounds` made of the other inputs.
            added: keeps what the blocks add, for later steps of the same window.
            ahead: takes what follows from `added`, so far ahead, instead of asking the blocks, whose weights are then
                not needed; None asks them.
            exact_blocks: how many of the first blocks attend exactly, where `attend_by` does not.

        Returns:
            a velocity [B, out_dim, T, h, w] float32 per branch.
        """
        fresh = latent, timestep.to(latent.device)
        # Tables are made here: a recording can neither make them nor keep those that are made elsewhere.
        told = condition, tuple(branches), self._rotation(latent)
        compute = partial(self._evaluate, added=added, ahead=ahead, exact_blocks=exact_blocks)
        # Weights that come and go are not where a recording read them, and what is kept for later steps changes hands.
        if self.replay is None or self._lender is not None or added is not None or not self._short(latent):
            return compute((fresh, told))
        how = self.parallel, self.attend_by, self.regions, self.frames_at_once, exact_blocks
        return self.replay(compute, fresh, told, how)

    def _short(self, latent: Tensor) -> bool:
        """Whether passes over such latents are short enough to be replayed."""
        tokens = self.grid(latent).tokens / self.parallel.size
        return self.replay is not None and self.replay.worth(tokens * self.config.dim**2)

    def _evaluate(self, given: Given, *, added: Added | None, ahead: float | None, exact_blocks: int) -> list[Tensor]:
        (latent, timestep), (condition, branches, rotation) = given
        setting = self._setting(self.grid(latent), rotation)
        x = self._patches(latent, condition, setting)
        time, time6 = self._embed_time(timestep.expand(x.shape[0]))
        if ahead is not None:
            assert added is not None, "nothing is kept that could be followed"
            followed = [self._answer(tokens, time, setting) for tokens in added.onto(x, ahead)]
            return velocities(self.config, followed, latent, timestep)
        if added is not None:
            added.begin(x)
        tokens = [x] * len(branches)
        del x
        exactly = replace(setting, kernel=exact_of(setting.kernel))
        for index, block in enumerate(self._blocks(Use.STEP)):
            here = exactly if index < exact_blocks else setting
            attended = None if index else _attended(block, tokens[0], time6, here, branches)
            for number, branch in enumerate(branches):
                tokens[number] = block(tokens[number], time6, here, branch.at(index), attended)
            del attended
        answers = [self._answer(x, time, setting) for x in tokens]
        if added is not None:
            added.finish(tokens)
        return velocities(self.config, answers, latent, timestep)

    def _rotation(self, latent: Tensor) -> Rotation:
        """Where the own tokens are."""
        grid = self.grid(latent)
        everywhere = video_rotation(grid, self.config.dim // self.config.num_heads, latent.device)
        return everywhere.part(self.parallel.span(grid.tokens))

    def _setting(self, grid: Grid, rotation: Rotation) -> Setting:
        """What holds for one evaluation.

        Raises:
            ModelError: heads that cannot be divided among those who share the work.
        """
        heads = self.config.num_heads
        if heads % self.parallel.size:
            raise ModelError(f"{heads} heads of attention cannot be divided among {self.parallel.size} processes")
        at_once = self.frames_at_once or grid.frames
        return Setting(grid, rotation, self.dtype, at_once, self.attend_by, self.parallel, self.regions)

    def _answer(self, tokens: Tensor, time: Tensor, setting: Setting) -> Tensor:
        """What the head names [B, out_dim, T, h, w] of own tokens [B, L, dim] and everybody else's."""
        patches = setting.parallel.gather(self.head(tokens, time, setting), 1, setting.grid.tokens)
        return self._unpatchify(patches, setting.grid)

    def modulations(self, timesteps: Tensor) -> Tensor:
        """What all blocks are modulated with at each of the timesteps [S]: [S, 6, dim] float32."""
        return self._embed_time(timesteps)[1]

    def lend(self, blocks: Lender | None) -> None:
        """Takes its blocks from somebody who has their weights at hand one after the other; None: from memory."""
        self._lender = blocks

    def _blocks(self, use: Use) -> Iterable[Block]:
        """The blocks in order, each with the weights of one use."""
        if self._lender is not None:
            return self._lender(use)
        return cast("Iterable[Block]", self.blocks)

    def grid(self, latent: Tensor) -> Grid:
        """Frames, rows and columns of tokens of latents [B, 16, T, h, w]."""
        frames, rows, columns = (
            size // patch for size, patch in zip(latent.shape[2:], self.config.patch_size, strict=True)
        )
        return Grid(frames, rows, columns)

    def prepare_texts(self, texts: Sequence[Tensor | None]) -> list[Words | None]:
        """Keys and values of texts [B, L, text_dim] for every block, in one pass over the blocks.

        Raises:
            ModelError: no text for a network that reads, a text for one that does not, or a text too long.
        """
        embedded = [self._embed_text(text) for text in texts]
        tokens = [text for text in embedded if text is not None]
        if not tokens:
            return [None] * len(texts)
        made = self._prepare(Use.TEXT, lambda block: [_cross(block).read(text) for text in tokens])
        return [Words(keys, self.config.text_len) for keys in made]

    def prepare_picture(self, clip: Tensor | None) -> Prepared | None:
        """Keys and values of vision tokens [B, clip_tokens, clip_dim] for every block.

        Raises:
            ModelError: no tokens for a network that looks, or tokens for one that does not.
        """
        tokens = self._embed_picture(clip)
        if tokens is None:
            return None
        return self._prepare(Use.PICTURE, lambda block: [_cross(block).look(tokens)])[0]

    def prepare_sounds(
        self, sounds: Sequence[tuple[Tensor, Tensor | None]], grid: Grid, *, silent: Collection[int] = ()
    ) -> list[Sound]:
        """Keys and values of sounds for every block, in one pass over the blocks.

        Args:
            sounds: `audio` and `masks` as `forward` takes them, once per sound.
            grid: of the latents, see `grid`.
            silent: numbers of sounds that are zeros from end to end: they take a tenth of the memory.

        Raises:
            ModelError: features or masks that do not fit the network or the latents.
        """
        heard = [self._embed_audio(audio if audio.ndim == 6 else audio.unsqueeze(0), grid) for audio, _ in sounds]
        places = [
            self._places(masks, people, grid).to(tokens.device) if people > 1 else None
            for (tokens, people), (_, masks) in zip(heard, sounds, strict=True)
        ]
        own = self._own_frames(grid)
        count = own.stop - own.start
        short = [number in silent and count > 2 for number in range(len(sounds))]
        told = [
            (tokens[:, own][:, :2] if cut else tokens[:, own], people)
            for (tokens, people), cut in zip(heard, short, strict=True)
        ]
        made = self._prepare(Use.SOUND, lambda block: [block.audio_cross_attn.hear(*voices) for voices in told])
        return [
            Sound(keys, place, count if cut else None) for keys, place, cut in zip(made, places, short, strict=True)
        ]

    def _own_frames(self, grid: Grid) -> slice:
        """The latent frames of the own tokens."""
        own = self.parallel.span(grid.tokens)
        return slice(own.start // grid.frame_tokens, -(-own.stop // grid.frame_tokens))

    def _prepare(self, use: Use, make: Callable[[Block], list[KeysValues]]) -> list[Prepared]:
        """What `make` gives for every block, sorted by input."""
        return list(zip(*(make(block) for block in self._blocks(use)), strict=True))

    def _patches(self, latent: Tensor, condition: Tensor, setting: Setting) -> Tensor:
        """The own tokens [B, L, dim]; float32 where the network computes in float16, whose range is too small."""
        frames, edges = self._own_frames(setting.grid), setting.frames()[1]
        cells = slice(*(frame * self.config.patch_size[0] for frame in (frames.start, frames.stop)))
        told = torch.cat([latent[:, :, cells].to(self.dtype), condition[:, :, cells].to(self.dtype)], dim=1)
        patch = self.patch_embedding
        if self.dtype == torch.float16:
            bias = None if patch.bias is None else patch.bias.float()
            x = F.conv3d(told.float(), patch.weight.float(), bias, patch.stride)
        else:
            x = patch(told).to(self.dtype)
        x = x.flatten(2).transpose(1, 2)
        return x[:, edges[0] : x.shape[1] - edges[1]]

    def _embed_time(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Time embeddings [B, dim] for the head and [B, 6, dim] for the blocks, both float32."""
        time = in_float32(sinusoid(timestep, self.config.freq_dim), *self.time_embedding)
        return time, in_float32(time, *self.time_projection).view(-1, 6, self.config.dim)

    def _embed_text(self, text: Tensor | None) -> Tensor | None:
        if self.text_embedding is None:
            _refuse("text", text)
            return None
        if text is None:
            raise ModelError("this network needs text embeddings, and none were given")
        if text.shape[1] > self.config.text_len:
            raise ModelError(f"a text of {text.shape[1]} tokens is longer than this network's {self.config.text_len}")
        # Texts are padded with zeros; one of them stands for all, see `Words`.
        padded = F.pad(text.to(self.dtype), (0, 0, 0, min(1, self.config.text_len - text.shape[1])))
        embedded: Tensor = self.text_embedding(padded)
        return embedded.to(self.dtype)

    def _embed_picture(self, clip: Tensor | None) -> Tensor | None:
        if self.img_emb is None:
            _refuse("clip", clip)
            return None
        if clip is None:
            raise ModelError("this network needs vision tokens (clip), and none were given")
        embedded: Tensor = self.img_emb(clip.to(self.dtype))
        return embedded.to(self.dtype)

    def _embed_audio(self, audio: Tensor, grid: Grid) -> tuple[Tensor, int]:
        """Audio tokens [B, T, P * tokens, channels], person by person, and the number of people P."""
        batch, people = audio.shape[:2]
        tokens = self.audio_proj(audio.to(self.patch_embedding.weight).flatten(0, 1)).to(self.dtype)
        if tokens.shape[1] != grid.frames:
            frames = self.config.vae_scale * (grid.frames - 1) + 1
            raise ModelError(f"audio of {audio.shape[2]} frames: {grid.frames} latent frames need {frames}")
        tokens = tokens.unflatten(0, (batch, people)).transpose(1, 2).flatten(2, 3)
        return tokens, people

    def _places(self, masks: Tensor | None, people: int, grid: Grid) -> Tensor:
        """Masks in latent cells → which tokens show whom: [B, P + 1, rows * columns] of zeros and ones."""
        if masks is None:
            raise ModelError(f"{people} people need masks that tell where each of them is, and none were given")
        masks = masks if masks.ndim == 4 else masks.unsqueeze(0)
        if masks.shape[1] != people + 1:
            raise ModelError(f"{people} people need {people + 1} masks (the background's too), not {masks.shape[1]}")
        return (F.interpolate(masks.float(), size=(grid.rows, grid.columns), mode="nearest") > 0).float().flatten(2)

    def _unpatchify(self, patches: Tensor, grid: Grid) -> Tensor:
        """Patches [B, L, patch * out_dim] → [B, out_dim, T, h, w]."""
        frames, rows, columns = self.config.patch_size
        x = patches.view(-1, *grid, frames, rows, columns, self.config.out_dim)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Draws weights for training from scratch; the head and the answers to sound start at zero.

        The generator lives on the weights' device.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv3d):
                nn.init.xavier_uniform_(module.weight.flatten(1), generator=generator)
            elif isinstance(module, Block | Head):
                nn.init.normal_(module.modulation, std=self.config.dim**-0.5, generator=generator)
            elif isinstance(module, nn.LayerNorm | RMSNorm) and module.weight is not None:
                nn.init.ones_(module.weight)
        for name, value in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(value)
            elif name.startswith(("text_embedding", "time_embedding")):
                nn.init.normal_(value, std=0.02, generator=generator)
            elif name.endswith(("head.head.weight", "audio_cross_attn.proj.weight")):
                nn.init.zeros_(value)


def _repeated(part: Tensor, frames: int) -> Tensor:
    """[B, 2, …] → [B, frames, …]: the first frame, then the second one over and over."""
    return torch.cat([part[:, :1], part[:, 1:].expand(-1, frames - 1, *part.shape[2:])], dim=1)


def _attended(
    block: Block, tokens: Tensor, time: Tensor, setting: Setting, branches: Sequence[Branch]
) -> Attended | None:
    """What several branches have in common in the first block, which attends before it is told anything."""
    places = [branch.sound.places for branch in branches if branch.sound.places is not None]
    if len(branches) == 1 or any(others is not places[0] for others in places):
        return None
    return block.attend(tokens, time, setting, places[0] if places else None)


def _cross(block: Block) -> CrossAttention:
    """The cross-attention of a network that reads or looks."""
    assert block.cross_attn is not None
    return block.cross_attn


def _refuse(name: str, value: Tensor | None) -> None:
    if value is not None:
        raise ModelError(f"this network has no part for {name}, but {name} was given")
