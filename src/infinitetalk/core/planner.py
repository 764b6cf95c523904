"""Plans where weights live and how work is cut, so that a job fits a machine, and says what it will take.

    resident   all weights of the transformer stay on the device
    pinned     some or all blocks come from pinned main memory, step after step
    disk       some or all blocks come from disk, through a few buffers of main memory

Stages run one after the other and hold only their own network, so the peak is that of the hungriest stage. Everything
here is arithmetic: shapes (`core.footprint`) times what was measured or estimated (`core.calibration`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from infinitetalk.core import footprint
from infinitetalk.core.calibration import Figure, Rates, constant
from infinitetalk.core.configs import DiTConfig, SpeechConfig, TextConfig, VAEConfig, VisionConfig
from infinitetalk.core.footprint import FULL, HALF, Weights
from infinitetalk.core.memory import Lodging, Tier
from infinitetalk.core.sizes import FPS, PIXEL_MULTIPLE, TEMPORAL_STRIDE, Pixels, nearest_window

FILLED = 0.95
"""Share of the device's memory that blocks may fill up: the rest is for what nobody can count, as the libraries' room
to work in and gaps between tensors. Full to the brim, a job fails for a fraction of a GiB."""

SLOTS, STAGES = 2, 3
"""Buffers that streamed blocks pass through: on the device, and in main memory on their way from disk."""

TILES, OVERLAP = (512, 384, 256), 64
"""Pixels on a side of the VAE's pieces, and of what neighbours share at least."""

KINDS: Mapping[str, float] = {
    **dict.fromkeys(("fp8_e4m3fn", "fp8_e5m2", "fp8", "int8"), 1.0),
    # Bytes per block of ggml, over the elements in a block.
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "q6_k": 210 / 256,
    "q5_k": 176 / 256,
    "q4_k": 144 / 256,
    "q3_k": 110 / 256,
    "q2_k": 84 / 256,
    # Files of mixed kinds: city96's 480p transformer of 16.4 billion weights has 11.3 GB and, about, 12.7 GB.
    "q4_k_m": 0.69,
    "q5_k_m": 0.775,
    "int4": 0.5625,
}
"""Bytes per element of matrices that are held in fewer than 16 bits. All other kinds are held as they are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """The shapes of a model's networks, and how their matrices are stored."""

    dit: DiTConfig
    vae: VAEConfig
    speech: SpeechConfig
    text: TextConfig | None = None
    vision: VisionConfig | None = None
    dit_bytes: float | None = None
    """Bytes per element of the transformer's matrices in memory; None: as they are computed."""
    around_bytes: float | None = None
    """The same of its matrices that are in no block, which many files keep in 16 bits."""
    text_bytes: float | None = None
    lora_rank: int = 0
    """Of LoRAs that are side branches of stored matrices; merged ones take nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a job asks of the networks, window after window."""

    size: Pixels
    window_frames: int
    motion_frames: int
    steps: int
    branches: int
    """Passes of the network in each step."""
    people: int = 1
    words: footprint.Words | None = None
    """Tokens of prompt and negative prompt, about; None for as many as the network reads."""
    still: bool = True
    """Whether the source is a picture, which is encoded once."""
    kept: int = 0
    """How many times a step cache keeps what the blocks added."""
    overlap_frames: int = 0
    """Frames at a border that both windows make."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a machine offers: budgets in bytes, speeds, and the number format that it computes in."""

    vram: int | None
    """None for a device that shares main memory."""
    ram: int
    rates: Rates
    number: int = HALF
    """Bytes of the numbers that the transformer computes in."""
    wide: bool = False
    """Whether tokens between blocks are float32, as float16 needs them."""
    tiers: tuple[Tier, ...] = tuple(Tier)
    """Tiers that may be taken."""
    persistent: int | None = None
    """Parameters of the transformer that stay on the device in the tiers that stream; None for what fits."""
    gpus: int = 1
    """Processes that share the work, each with such a device and so much main memory."""
    fused: bool = False
    """Whether what lies between products is one kernel each."""
    eight: bool = False
    """Whether products take 8-bit matrices as they are."""

    @property
    def speedup(self) -> float:
        """How much quicker they are than one."""
        return 1.0 if self.gpus == 1 else self.gpus * constant("shared_efficiency").value


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a plan will take."""

    vram: Mapping[str, int] = field(default_factory=dict)
    """Bytes on the device at the peak of each stage; of main memory for a device that shares it."""
    ram: int
    """Bytes of main memory at the peak."""
    window_seconds: float
    new_seconds: float
    """Seconds of video that a window adds."""
    waiting: float
    """Share of a step in which the device waits for weights."""
    estimate: bool
    """Whether any rate behind the times was not measured on this card."""

    @property
    def vram_peak(self) -> int:
        """Bytes on the device at the peak of the whole job."""
        return max(self.vram.values())

    @property
    def seconds_per_second(self) -> float:
        """Seconds of work for a second of video, loading left out."""
        return self.window_seconds / self.new_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a job is done on a machine, and what that will take."""

    lodging: Lodging
    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """Why nothing fits: the plan that lacks least, and what it needs and finds."""

    plan: Plan
    memory: str
    """Whose memory is too small: the device's or the main one."""
    need: int
    budget: int


def held(weights: Weights, element: float | None, number: int) -> int:
    """Bytes of weights in memory: matrices of so many bytes per element, all else in the number format."""
    return round(weights.matrices * (number if element is None else element) + weights.rest * number)


def _lora(weights: Weights, networks: Networks, number: int) -> int:
    """Bytes of LoRAs beside stored matrices, for square ones of the transformer's width."""
    if networks.dit_bytes is None:
        return 0
    return round(2 * networks.lora_rank * weights.matrices / networks.dit.dim * number)


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Bytes of everything that a plan places."""

    block: int
    once: int
    around: int
    vae: int
    speech: int
    text: int
    """In the number format that is computed in, as it is held where it stays on the device."""
    text_layer: int
    """As it is stored."""
    vision: int

    @property
    def guests(self) -> int:
        """Small networks that wait in main memory for their turn."""
        return self.vae + self.speech + self.vision

    @property
    def encoders(self) -> int:
        """All networks but the transformer."""
        return self.guests + self.text


@lru_cache(maxsize=64)
def _sizes(networks: Networks, number: int) -> _Sizes:
    step, once, element = footprint.block_step(networks.dit), footprint.block_once(networks.dit), networks.dit_bytes
    text, layer = Weights(0, 0), Weights(0, 0)
    if networks.text is not None:
        text = footprint.text_encoder(networks.text)
        layer = Weights(text.matrices // networks.text.num_layers, 0)
    return _Sizes(
        block=held(step, element, number) + _lora(step, networks, number),
        once=held(once, element, number) + _lora(once, networks, number),
        around=held(footprint.around_blocks(networks.dit), networks.around_bytes, number),
        vae=footprint.autoencoder(networks.vae).count * FULL,
        speech=footprint.speech_encoder(networks.speech).count * FULL,
        text=held(text, None, number),
        text_layer=held(layer, networks.text_bytes, HALF),
        vision=held(footprint.picture_encoder(networks.vision), None, number) if networks.vision else 0,
    )


class _Turn(NamedTuple):
    """What a stage needs on the device while it works, beside what stays there: weights and other tensors."""

    weights: int
    tensors: int


def _turns(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> Iterator[tuple[str, _Turn]]:
    """Every stage's own needs."""
    sizes, keep = _sizes(networks, machine.number), plan.keep_encoders
    vae, speech, vision = (0 if keep else size for size in (sizes.vae, sizes.speech, sizes.vision))
    yield "audio encoding", _Turn(speech, FULL * footprint.hearing_numbers(networks.speech, _heard(work)))
    if networks.text is not None:
        # Elsewhere its layers come one after the other, and its table of tokens stays in main memory.
        yield "text", _Turn(0 if keep else SLOTS * sizes.text_layer, FULL * footprint.reading_numbers(networks.text))
    if networks.vision is not None:
        yield "picture", _Turn(vision, sizes.vision // 10)
    for stage, encode in (("key frames", True), ("decoding", False)):
        yield stage, _Turn(vae, FULL * _coding_numbers(plan, networks, work, machine.gpus, encode=encode))
    yield "denoising", _denoising(plan, networks, work, machine)


def _coding_numbers(plan: Lodging, networks: Networks, work: Work, gpus: int, *, encode: bool) -> int:
    """Numbers that the VAE holds at its peak, the video included."""
    video, piece = footprint.video_numbers(work.size, work.window_frames), _piece(work.size, plan.tile)
    coding = footprint.coding_numbers(networks.vae, piece, encode=encode, at_once=plan.coded_at_once) // gpus
    if piece == work.size:
        return video + coding
    own = footprint.video_numbers(piece, work.window_frames)
    # Pieces fade into each other in a video of their own, which is then divided by their weights.
    return max(video + own + coding, 2 * video)


def _piece(size: Pixels, tile: int | None) -> Pixels:
    """What the VAE works on at once."""
    return size if tile is None else Pixels(min(size.height, tile), min(size.width, tile))


def _denoising(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> _Turn:
    sizes, number = _sizes(networks, machine.number), machine.number
    streamed = networks.dit.num_layers - plan.resident_blocks
    slots = 0 if plan.tier is Tier.RESIDENT else min(SLOTS, max(streamed, 1)) * max(sizes.block, sizes.once)
    told = number * footprint.keys_and_values(networks.dit, work.window_frames, work.people, work.branches, work.words)
    step = footprint.forward_numbers(
        networks.dit,
        work.size,
        work.window_frames,
        at_once=plan.frames_at_once,
        branches=work.branches,
        people=work.people,
        wide=machine.wide,
        kept=work.kept,
    )
    # The widest matrix, made whole from what is stored.
    widest = 0 if networks.dit_bytes is None else networks.dit.dim * networks.dit.ffn_dim * number
    return _Turn(slots, told + step * number // HALF // machine.gpus + widest)


def _as_held(plan: Lodging, networks: Networks, machine: Machine) -> Networks:
    """The networks as a plan holds them: a device without memory of its own computes with dense matrices at once."""
    dense = machine.vram is None and plan.tier is Tier.RESIDENT and networks.dit_bytes is not None
    return replace(networks, dit_bytes=None) if dense else networks


def _stages(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> dict[str, int]:
    """Bytes on the device at the peak of each stage."""
    networks = _as_held(plan, networks, machine)
    sizes = _sizes(networks, machine.number)
    stays = plan.resident_blocks * sizes.block + sizes.around + (sizes.encoders if plan.keep_encoders else 0)
    if plan.tier is Tier.RESIDENT:
        stays += networks.dit.num_layers * sizes.once
    share = 0.0
    if machine.vram is not None:
        stays, share = stays + round(constant("context_bytes").value), constant("allocator_share").value
    # From the first window on, what the transformer was told of texts and picture waits while others work.
    waits = footprint.told_throughout(networks.dit, work.branches, work.words) * machine.number
    return {
        name: stays + turn.weights + round((turn.tensors + (0 if name == "denoising" else waits)) * (1 + share))
        for name, turn in _turns(plan, networks, work, machine)
    }


def _heard(work: Work) -> float:
    """Seconds of sound that are encoded in one go: a minute and its surroundings."""
    return 70.0 + work.window_frames / FPS


def main_memory(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> dict[str, int]:
    """Bytes of main memory at the peak, by what holds them."""
    networks = _as_held(plan, networks, machine)
    sizes, blocks = _sizes(networks, machine.number), networks.dit.num_layers
    # Weights pass through main memory a block at a time.
    buffers = sizes.block
    if plan.tier is Tier.PINNED:
        buffers += (blocks - plan.resident_blocks) * sizes.block + blocks * sizes.once
    elif plan.tier is Tier.DISK:
        buffers += STAGES * max(sizes.block, sizes.once)
    return {
        "process": round(constant("process_ram" if machine.vram is not None else "process_ram_cpu").value),
        "window": 3 * FULL * footprint.video_numbers(work.size, work.window_frames),
        "work": max(_stages(plan, networks, work, machine).values()) if machine.vram is None else 0,
        "waiting networks": 0 if plan.keep_encoders else sizes.guests,
        "streamed weights": buffers,
    }


def _forward_seconds(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> float:
    """Seconds of one pass of the transformer with its weights at hand."""
    dit, rates = networks.dit, machine.rates
    products = footprint.forward_operations(dit, work.size, work.window_frames, work.people)
    numbers = footprint.tokens(dit, work.size, work.window_frames) * dit.dim * dit.num_layers
    form = "_fused" if machine.fused else "_processor" if machine.vram is None else ""
    each = constant(f"elementwise_bytes{form}").value
    moved = numbers * each * machine.number / HALF
    if networks.dit_bytes is not None and not machine.eight:
        times = -(-((work.window_frames - 1) // TEMPORAL_STRIDE + 1) // (plan.frames_at_once or work.window_frames))
        moved += times * dit.num_layers * footprint.block_step(dit).matrices * constant("dequantise_bytes").value
    return (products / rates.products.value + moved / rates.memory.value) / machine.speedup


def step_seconds(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> tuple[float, float]:
    """Seconds of one step, and the share of them in which the device waits for weights."""
    computing = work.branches * _forward_seconds(plan, networks, work, machine)
    streamed = (networks.dit.num_layers - plan.resident_blocks) * _sizes(networks, machine.number).block
    rates = machine.rates
    slowest = min(rates.link.value, rates.disk.value) if plan.tier is Tier.DISK else rates.link.value
    total = max(computing, streamed / slowest)
    return total, 1 - computing / total


def coding_seconds(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> float:
    """Seconds of the VAE for a window: motion frames in, all frames out, and key frames of a video."""
    vae, size = networks.vae, work.size
    found = footprint.coding_operations(vae, size, work.motion_frames, encode=True)
    found += footprint.coding_operations(vae, size, work.window_frames, encode=False)
    if not work.still:
        found += footprint.coding_operations(vae, size, work.window_frames, encode=True)
    piece = _piece(size, plan.tile)
    pieces = _pieces(size.height, piece.height) * _pieces(size.width, piece.width)
    found *= pieces * piece.height * piece.width / (size.height * size.width)
    return found / machine.rates.coding.value / machine.speedup


def _pieces(length: int, piece: int) -> int:
    """Pieces that cover a side, neighbours sharing `OVERLAP` pixels at least."""
    return 1 if piece >= length else 1 + -((piece - length) // (piece - OVERLAP))


def predict(plan: Lodging, networks: Networks, work: Work, machine: Machine) -> Plan:
    """A way to do the work, with what it will take."""
    networks = _as_held(plan, networks, machine)
    step, waiting = step_seconds(plan, networks, work, machine)
    rates = machine.rates
    used: list[Figure] = [rates.products, rates.coding, rates.memory]
    used += [] if plan.tier is Tier.RESIDENT else [rates.link]
    used += [rates.disk] if plan.tier is Tier.DISK else []
    prediction = Prediction(
        vram=_stages(plan, networks, work, machine),
        ram=sum(main_memory(plan, networks, work, machine).values()),
        window_seconds=work.steps * step + coding_seconds(plan, networks, work, machine),
        new_seconds=max(1, work.window_frames - work.motion_frames - work.overlap_frames) / FPS,
        waiting=waiting,
        estimate=machine.gpus > 1 or any(figure.estimate for figure in used),
    )
    return Plan(lodging=plan, prediction=prediction)


def _drafts(networks: Networks, work: Work, machine: Machine) -> Iterator[Lodging]:
    """Ways to do the work, those first that are quicker: streaming costs little, pieces of pictures much."""
    latents = (work.window_frames - 1) // TEMPORAL_STRIDE + 1
    cuts = [None, *(count for count in (4, 2, 1) if count < latents)]
    tiers = [tier for tier in Tier if tier in machine.tiers]
    if machine.vram is None and len(tiers) > 1:
        tiers.remove(Tier.PINNED)  # such a device reads main memory: there is nothing to pin
    # Few frames at once take a little longer and give the same; pieces cost much, and are only nearly the same.
    pieces = [(None, None), *((side, 1) for side in (None, *TILES) if side is None or side < max(work.size))]
    for tile, coded in pieces:
        for tier in tiers:
            first = Lodging(
                tier=tier,
                resident_blocks=networks.dit.num_layers,
                keep_encoders=tier is Tier.RESIDENT,
                coded_at_once=coded,
                tile=tile,
            )
            ways = [replace(first, frames_at_once=cut) for cut in cuts]
            if tier is Tier.RESIDENT:
                yield from ways
                yield from (replace(way, keep_encoders=False) for way in ways)
            else:
                yield from _streamed(ways, networks, work, machine)


def _streamed(ways: Sequence[Lodging], networks: Networks, work: Work, machine: Machine) -> Iterator[Lodging]:
    """The same ways with as many resident blocks as fit beside the slots, most first; then with none."""
    blocks = networks.dit.num_layers
    none = [replace(way, resident_blocks=0) for way in ways]
    if machine.persistent is not None:
        wanted = min(blocks, machine.persistent // footprint.block_step(networks.dit).count)
        yield from (replace(way, resident_blocks=wanted) for way in ways)
    elif machine.vram is None:
        yield from none
    else:
        block, fitting = _sizes(networks, machine.number).block, []
        for way in none:
            left = round(machine.vram * FILLED) - max(_stages(way, networks, work, machine).values())
            fitting.append(replace(way, resident_blocks=max(0, min(blocks - SLOTS, left // block))))
        # Pinned blocks are those that are not resident, so the most resident ones also need the least main memory.
        yield from sorted(fitting, key=lambda way: -way.resident_blocks)


@dataclass(frozen=True, slots=True)
class _Need:
    """The memory that a way of working wants most beyond what there is."""

    memory: str
    need: int
    budget: int

    @property
    def lacking(self) -> int:
        """Bytes that are lacking; none or less where it fits."""
        return self.need - self.budget


def _tightest(draft: Lodging, networks: Networks, work: Work, machine: Machine) -> _Need:
    needs = [_Need("main memory", sum(main_memory(draft, networks, work, machine).values()), machine.ram)]
    if machine.vram is not None:
        needs.append(_Need("GPU memory", max(_stages(draft, networks, work, machine).values()), machine.vram))
    return max(needs, key=lambda need: need.lacking)


def fits(lodging: Lodging, networks: Networks, work: Work, machine: Machine) -> bool:
    """Whether networks that live so can do the work."""
    return _tightest(lodging, networks, work, machine).lacking <= 0


def choose(networks: Networks, work: Work, machine: Machine) -> Plan | Misfit:
    """The first way that fits the machine, or what lacks least of one."""
    tried: list[tuple[int, Lodging, _Need]] = []
    for draft in _drafts(networks, work, machine):
        need = _tightest(draft, networks, work, machine)
        if need.lacking <= 0:
            return predict(draft, networks, work, machine)
        tried.append((need.lacking, draft, need))
    _, draft, need = min(tried, key=lambda one: one[0])
    plan = predict(draft, networks, work, machine)
    return Misfit(plan=plan, memory=need.memory, need=need.need, budget=need.budget)


_SHORTER = (1.0, 0.8, 0.6, 0.4, 0.25)
_SMALLER = (1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25)


def nearest(networks: Networks, work: Work, machine: Machine) -> tuple[Work, Plan] | None:
    """The largest work of the same shape that fits: fewer frames in a window, a smaller picture, or both.

    Among equals in pixels and frames, the larger picture is nearer.
    """
    tries = {(_scaled(work.size, smaller), _shortened(work, shorter)) for smaller in _SMALLER for shorter in _SHORTER}
    for size, frames in sorted(tries, key=lambda pair: (-pair[0].height * pair[0].width * pair[1], -pair[0].height)):
        less = replace(work, size=size, window_frames=frames)
        if less != work and isinstance(plan := choose(networks, less, machine), Plan):
            return less, plan
    return None


def _scaled(size: Pixels, factor: float) -> Pixels:
    height, width = (max(PIXEL_MULTIPLE, round(side * factor / PIXEL_MULTIPLE) * PIXEL_MULTIPLE) for side in size)
    return Pixels(height, width)


def _shortened(work: Work, factor: float) -> int:
    """Frames of a shorter window of the form 4n+1, still longer than what it hands on."""
    least = nearest_window(work.motion_frames + TEMPORAL_STRIDE)
    return min(work.window_frames, max(least, nearest_window(round(work.window_frames * factor))))
