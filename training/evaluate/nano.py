"""Measures what nano must show: `python -m training.evaluate.nano MODEL CORPUS OUT`.

Everything goes through the product's engine. The people are held out, and so is the speech engine (flite); landmarks
and identity come from models that never saw our pictures (`training.evaluate.fetch` gets them). OUT keeps the scenes
and the videos, so that a second run only measures; it receives `metrics.json` and contact sheets.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np

from infinitetalk.engine.model import SpeechPart
from infinitetalk.evaluate.color import mean_lab
from infinitetalk.evaluate.series import correlation
from infinitetalk.weights.folder import ModelFolder
from training.evaluate import measures, sheets
from training.evaluate.bench import ADDED, SMALL, WANTED, WINDOW, Bench
from training.evaluate.cost import cost
from training.evaluate.identity import Recogniser, judges
from training.evaluate.landmarks import FaceMesh
from training.evaluate.lively import moving
from training.evaluate.photograph import known_portrait, photographed
from training.evaluate.reading import mouths
from training.evaluate.report import Check, median, write
from training.evaluate.scenes import CHAIN, DOUBLE, SINGLE, Studio
from training.evaluate.swapped import own, swapped
from training.evaluate.videos import Camera
from training.nano.settings import EDITIONS

IN_TIME: Final = 40.0
"""Milliseconds by which lips may come before or after the sound."""


def lips(bench: Bench, count: int) -> list[Check]:
    """Whether mouths follow unseen voices, identity, background and the VAE: clips of one window."""
    rows, shown = [], []
    for index, scene in enumerate(bench.studio.scenes("single", SINGLE, count, WINDOW, truth=True)):
        begun = time.perf_counter()
        video = bench.camera.shoot(f"single-{index}", scene.picture, scene.voice, WINDOW)
        seconds = time.perf_counter() - begun
        again = bench.camera.through_vae(scene.frames)
        made, drawn = bench.openness(f"single-{index}", video), bench.openness(f"truth-{index}", scene.frames)
        bench.sync(f"single-{index}", made, scene.truth)
        rows.append({
            "r": correlation(made, scene.truth),
            "r of the render": correlation(drawn, scene.truth),
            "identity": bench.identity(f"single-{index}", scene.picture, video[4::11]),
            "identity of the render": bench.recogniser.distance(scene.picture, scene.frames[4::11]),
            "background": measures.psnr(video, scene.picture, measures.background(scene.person)),
            "vae mouth": measures.psnr(again, scene.frames, measures.inside(scene.mouth, scene.picture.shape[:2])),
            "vae": measures.psnr(again, scene.frames),
        })  # fmt: skip
        shown.append(sheets.Row([scene.picture, *video[::6]], f"r {rows[-1]['r']:.2f}"))
        bench.say(f"single {index}: r {rows[-1]['r']:.3f} identity {rows[-1]['identity']:.3f} {seconds:.0f} s")
    bench.details["single"] = rows
    mean = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    sheets.save(bench.out / "single.jpg", shown, cell=96, margin=60)
    return [
        Check("jaw openness with the truth, unseen voices, by landmarks, median r", median(rows, "r"),
              ">=", bench.wanted.jaw, f"of {count}; lowest {min(row['r'] for row in rows):.2f}; "
              f"true renders {mean['r of the render']:.2f}"),
        Check("VAE, held-out frames, mouth's box, PSNR", mean["vae mouth"], ">=", 30, f"whole {mean['vae']:.1f}"),
        Check("background PSNR", mean["background"], ">=", 28),
        Check("identity, dlib L2 to the portrait", mean["identity"], "<=", 0.28,
              f"of {sum(np.isfinite(row['identity']) for row in rows)}; "
              f"true renders {mean['identity of the render']:.2f}"),
    ]  # fmt: skip


def intact(bench: Bench, count: int) -> list[Check]:
    """Clips of two windows for the eye, with a hint where to look first."""
    length = WINDOW + ADDED
    rows, strays = [], []
    for index, scene in enumerate(bench.studio.scenes("double", DOUBLE, count, length)):
        video = bench.camera.shoot(f"double-{index}", scene.picture, scene.voice, length)
        like = bench.mesh.points(scene.picture)
        if like is None:
            bench.say(f"double {index}: no face was found in the portrait")
            continue
        stray = measures.distortion(bench.track(f"double-{index}", video), like)
        strays.append({"clip": index, "worst": float(np.percentile(stray, 98)), "at": int(stray.argmax()),
                       "r": correlation(bench.openness(f"double-{index}", video), scene.truth)})  # fmt: skip
        rows.append(sheets.Row([scene.picture, *video[4::11]], f"{index}"))
        bench.say("double {clip}: strays {worst:.3f} at frame {at}, r {r:.3f}".format(**strays[-1]))
    bench.details["double"] = strays
    sheets.save(bench.out / "double.jpg", rows, cell=128, margin=24, quality=80)
    worst = sorted(strays, key=lambda row: -float(row["worst"]))
    hint = "look at " + ", ".join(f"{row['clip']} frame {row['at']}" for row in worst[:4])
    return [Check("faces intact: landmarks astray, median of the clips' worst", median(strays, "worst"), note=hint)]


def real_speech(bench: Bench, count: int) -> list[Check]:
    """Held-out people who say the LibriVox clips."""
    scenes = list(bench.studio.real_scenes(count))
    rows, shut, chance = [], [], []
    for index, scene in enumerate(scenes):
        video = bench.camera.shoot(f"real-{index}", scene.picture, scene.voice, scene.length)
        shown, segments = bench.openness(f"real-{index}", video), bench.studio.real[index].segments
        bench.sync(f"real-{index}", shown, scene.truth)
        bench.identity(f"real-{index}", scene.picture, video[4::11])
        other = scenes[(index + 1) % len(scenes)].truth
        shut += measures.closures(shown, segments)
        chance.append(measures.by_chance(shown, segments))
        rows.append({
            "r": correlation(shown, scene.truth),
            "r with loudness": correlation(shown, measures.loudness(scene.voice, scene.length)),
            "r with another track": correlation(shown, other),
            "common": correlation(scene.truth, other),
            "track with loudness": correlation(scene.truth, measures.loudness(scene.voice, scene.length)),
        })  # fmt: skip
        bench.say(f"real {index}: { ({key: round(value, 3) for key, value in rows[-1].items()}) }")
    bench.details["real"] = rows
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return [
        Check("LibriVox: mean r with the phonemes' openness", mean["r"], ">=", 0.4,
              f"lowest {min(row['r'] for row in rows):.2f}"),
        Check("LibriVox: that r less the one with loudness", mean["r"] - mean["r with loudness"], ">=", 0,
              f"the track itself with loudness {mean['track with loudness']:.2f}"),
        Check("LibriVox: lips closed at p, b, m", float(np.mean(shut)), ">=", 0.6,
              f"of {len(shut)}; at any other time {float(np.mean(chance)):.2f}"),
        Check("LibriVox: mean r with another clip's track", mean["r with another track"], "<=", mean["common"] + 0.1,
              f"the tracks have {mean['common']:.2f} in common"),
    ]  # fmt: skip


def chain(bench: Bench, windows: int) -> list[Check]:
    """Windows in a row: seams, and whether picture, person and colours fade."""
    length = WINDOW + (windows - 1) * ADDED
    scene = next(bench.studio.scenes("chain", CHAIN, 1, 5))
    voice, truth = bench.studio.speech(length)
    video = bench.camera.shoot(f"chain-{windows}", scene.picture, voice, length)
    starts = bench.camera.windows(scene.picture, voice, length)
    opened, home = bench.openness(f"chain-{windows}", video), mean_lab(scene.picture)
    # Windows that end at pauses leave a piece over, which is none.
    parts = [video[begin:end] for begin, end in pairwise([*starts, length])][:windows]
    where = measures.background(scene.person)
    rows = [{
        "sharpness": measures.sharpness(part) / measures.sharpness(parts[0]),
        "background": measures.psnr(part, scene.picture, where),
        "identity": bench.identity("chain", scene.picture, part[4::4]),
        "colour": float(np.linalg.norm(np.mean([mean_lab(frame) for frame in part[::4]], 0) - home)),
        "r": correlation(opened[begin : begin + len(part)], truth[begin : begin + len(part)]),
    } for begin, part in zip(starts, parts, strict=False)]  # fmt: skip
    seams = measures.borders(video, starts)
    bench.details["chain"] = {"windows": rows, "starts": starts, "seams": [round(float(seam), 3) for seam in seams]}
    shown = [
        sheets.Row(
            [scene.picture if not index else None, *part[:: max(1, len(part) // 12)][:12]], f"window {index + 1}"
        )
        for index, part in enumerate(parts)
    ]
    sheets.save(bench.out / "chain.jpg", shown, cell=112, margin=76)
    return [
        Check("chain: change at a border relative to the median, largest", float(seams.max()), "<=", 2.0),
        Check("chain: sharpness of the last window relative to the first", rows[-1]["sharpness"], ">=", 0.85,
              "background PSNR " + " ".join(f"{row['background']:.1f}" for row in rows)),
        Check("chain: identity in the last window relative to the first", rows[-1]["identity"] / rows[0]["identity"],
              "<=", 1.1, " ".join(f"{row['identity']:.2f}" for row in rows)),
        Check("chain: colours of the last window from the portrait's, Delta E", rows[-1]["colour"], "<=", 2,
              f"of {len(rows)}; largest {max(row['colour'] for row in rows):.2f}"),
        Check("chain: jaw openness with the truth, last window's r", rows[-1]["r"],
              note="r " + " ".join(f"{row['r']:.2f}" for row in rows)),
    ]  # fmt: skip


def size(bench: Bench, model: Path) -> list[Check]:
    """Parameters and bytes of all parts."""
    folder, loaded = ModelFolder.open(model), bench.camera.engine.model
    parts = (folder.dit, folder.vae, folder.speech)
    stored = sum(path.stat().st_size for part in parts for path in part.files)
    speech = loaded.speech.encoder if isinstance(loaded.speech, SpeechPart) else None
    networks = [network for network in (loaded.dit, loaded.vae, speech) if network is not None]
    count = sum(value.numel() for network in networks for value in network.parameters())
    return [Check("parameters, millions", count / 1e6, "<=", 30), Check("megabytes", stored / 1e6, "<=", 30)]


def together(bench: Bench) -> list[Check]:
    """What all videos say that were made: whether lips come in time, and whether everybody stays who they are."""
    checks = []
    if bench.lags:
        late = np.abs(list(bench.lags.values()))
        worst = max(bench.lags, key=lambda name: abs(bench.lags[name]))
        note = f"of {len(late)}; median {np.median(late):.0f} ms, {worst} {bench.lags[worst]:.0f} ms"
        share = float(np.mean(late <= IN_TIME))
        checks.append(Check("sync: share of clips within 40 ms", share, ">=", 0.95, note))
    if len(bench.portraits) > 1:
        names, numbers = list(bench.portraits), np.array(list(bench.portraits.values()))
        near = [names[int(np.linalg.norm(numbers - face, axis=1).argmin())] == name for name, face in bench.faces]
        note = f"of {len(near)}, {len(names)} people"
        checks.append(
            Check("faces nearer to their own person than to any other", float(np.mean(near)), ">=", 0.99, note)
        )
    return checks


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a model folder, or nano for the bundled one")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--edition", choices=tuple(EDITIONS), default="1", help="whose people and size of pictures")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--judges", type=Path, default=judges())
    parser.add_argument(
        "--portrait", type=Path, default=known_portrait(), help="the photograph; default: scikit-image's astronaut"
    )
    parser.add_argument("--small", action="store_true", help="less of everything: a first look")
    for name, (_, told) in MEASURES.items():
        parser.add_argument(f"--{name}", type=int, help=f"{told}; default by edition; 0: none")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    wanted = WANTED[options.edition]
    usual = SMALL if options.small else wanted.amounts
    amounts = {name: usual[name] if (own := getattr(options, name)) is None else own for name in MEASURES}
    if amounts["swapped"] == 1:
        parser.error("--swapped 1: one clip has no other's sound; 0, or 2 and more, would work")
    bench = Bench(options.model, Camera(options.model, options.out / "videos", options.device),
                  Studio.open(options.out / "scenes", options.corpus, EDITIONS[options.edition]), options.out,
                  FaceMesh(), Recogniser(options.judges), wanted, amounts["single"], options.portrait)  # fmt: skip
    checks = size(bench, options.model)
    for name, (measure, _) in MEASURES.items():
        begun = time.perf_counter()
        checks += measure(bench, amounts[name]) if amounts[name] else []
        bench.say(f"[{name}: {time.perf_counter() - begun:.0f} s]")
        write(options.out / "metrics.json", checks, bench.details)
    checks += together(bench)
    write(options.out / "metrics.json", checks, bench.details)
    bench.say("\n" + "\n".join(check.line() for check in checks))


Measure = Callable[[Bench, int], list[Check]]
MEASURES: Mapping[str, tuple[Measure, str]] = {
    "cost": (cost, "windows of which time and memory are measured"),
    "single": (lips, "clips of one window"),
    "real": (real_speech, "LibriVox clips"),
    "mouths": (mouths, "of these, so many whose phones are read"),
    "chain": (chain, "windows in a row"),
    "own": (own, "clips with their own sound, without renders"),
    "swapped": (swapped, "clips with another's sound"),
    "moving": (moving, "people at three strengths of motion"),
    "photo": (photographed, "most windows of a photograph that says every LibriVox clip"),
    "double": (intact, "clips of two windows"),
}

if __name__ == "__main__":
    main()
