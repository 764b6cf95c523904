"""Nodes and workflows against what a real ComfyUI said of them, and the nodes' own work."""

import copy
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from infinitetalk.core.knobs import CONTROLS
from tools.comfyui_graph import GraphError, check_values, to_prompt
from tools.run_comfyui import INFO, ORDER, OURS, WORKFLOWS, read_workflow

STORED: Mapping[str, Any] = json.loads(INFO.read_text(encoding="utf-8"))
INFO_OF: Mapping[str, Any] = STORED["nodes"]


def bare(inputs: Any) -> Any:
    """A node's inputs as they come out of JSON, without the texts that explain them."""
    found = json.loads(json.dumps(inputs))
    for group in found.values():
        for told in group.values():
            if len(told) > 1 and isinstance(told[1], dict):
                told[1].pop("tooltip", None)
    return found


def test_the_stored_words_name_their_commit() -> None:
    assert len(STORED["commit"]) == 40
    assert set(STORED["commit"]) <= set("0123456789abcdef")


def test_nodes_are_what_comfyui_was_told(nodes: Any) -> None:
    ours = {kind: told for kind, told in INFO_OF.items() if kind.startswith(OURS)}
    assert set(ours) == set(nodes.NODE_CLASS_MAPPINGS) == set(nodes.NODE_DISPLAY_NAME_MAPPINGS)
    for kind, node in nodes.NODE_CLASS_MAPPINGS.items():
        now, then = bare(node.INPUT_TYPES()), bare(ours[kind]["input"])
        for group, inputs in then.items():
            # Settings may come before ComfyUI is run again, but behind the others: graphs hold values by their order.
            anywhere = kind == "InfiniteTalkSettings"
            names = [name for name in now[group] if name in inputs or not anywhere]
            now[group] = {name: now[group][name] for name in names[: len(inputs)]}
            assert list(now[group]) == list(inputs), f"{kind}: run tools.run_comfyui again"
        assert now == then, f"{kind}: run tools.run_comfyui again"
        assert list(node.RETURN_TYPES) == ours[kind]["output"]
        assert list(node.RETURN_NAMES) == ours[kind]["output_name"]
        assert callable(getattr(node, node.FUNCTION))


def test_every_setting_has_a_widget_or_a_link(nodes: Any) -> None:
    names = {name for node in nodes.NODE_CLASS_MAPPINGS.values()
             for group in node.INPUT_TYPES().values() for name in group}  # fmt: skip
    by_link = {"audio": "audio_1", "masks": "mask_1"}
    without = {"text", "voice", "soundtrack"}
    assert {by_link.get(control.name, control.name) for control in CONTROLS} - names == without


@pytest.mark.parametrize("name", ORDER)
def test_workflows_fit_the_server(name: str) -> None:
    prompt = to_prompt(read_workflow(name), INFO_OF)
    check_values(prompt, INFO_OF)
    assert sum(INFO_OF[node["class_type"]]["output_node"] for node in prompt.values()) == 1


def test_there_are_these_workflows() -> None:
    assert {path.stem for path in WORKFLOWS.glob("*.json")} == set(ORDER)


def broken(change: str) -> dict[str, Any]:
    graph = copy.deepcopy(read_workflow("image"))
    sampler = next(node for node in graph["nodes"] if "Sampler" in node["type"])
    if change == "link":
        next(slot for slot in sampler["inputs"] if slot["name"] == "voices")["link"] = None
    elif change == "source":
        graph["links"] = [link for link in graph["links"] if link[5] != "INFINITETALK_VOICES"]
    elif change == "kind":
        sampler["type"] = "InfiniteTalkOldSampler"
    elif change == "type":
        next(link for link in graph["links"] if link[5] == "IMAGE")[2] = 1
    elif change == "value":
        sampler["widgets_values"] = ["" if value == "" else 99 for value in sampler["widgets_values"]]
    elif change == "short":
        sampler["widgets_values"] = []
    return graph


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("link", "nothing is linked to voices"),
        ("source", "the link to voices comes from nowhere"),
        ("kind", "the server has none of this name"),
        ("type", "the link to image is no IMAGE"),
        ("value", "mode = 99 is none of streaming, clip"),
        ("short", "no value for "),
    ],
)
def test_broken_workflows_are_told(change: str, line: str) -> None:
    with pytest.raises(GraphError, match=line):
        check_values(to_prompt(broken(change), INFO_OF), INFO_OF)


def test_a_missing_link_is_one_sentence_in_comfyui() -> None:
    """ComfyUI itself refuses what must be linked; the nodes refuse the rest, see `test_refusals_are_a_sentence`."""
    assert STORED["missing_link"] == "Required input is missing: voices"


class Interrupted(Exception):  # noqa: N818
    """Stands for ComfyUI's exception of this purpose."""


class Host:
    """What the nodes use of ComfyUI while they work."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, Any]] = []
        self.stop_early = False

    def stop(self) -> None:
        """Interrupts once the first finished window was shown."""
        if self.stop_early and any(preview is not None for _, _, preview in self.told):
            raise Interrupted

    def bar(self, _total: int) -> Any:
        host = self

        class Bar:
            def update_absolute(self, value: int, total: int, preview: Any) -> None:
                host.told.append((value, total, preview))

        return Bar()


class Video:
    """Stands for ComfyUI's VIDEO of a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def get_stream_source(self) -> str:
        return self.file


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    modules: dict[str, dict[str, Any]] = {
        "comfy": {},
        "comfy.model_management": {
            "get_torch_device": lambda: torch.device("cpu"),
            "unload_all_models": lambda: None,
            "soft_empty_cache": lambda: None,
            "throw_exception_if_processing_interrupted": made.stop,
        },
        "comfy.utils": {"ProgressBar": made.bar},
        "comfy_api": {},
        "comfy_api.input_impl": {"VideoFromFile": Video},
    }
    for name, members in modules.items():
        module = ModuleType(name)
        for member, value in members.items():
            setattr(module, member, value)
        monkeypatch.setitem(sys.modules, name, module)
        home, _, own = name.rpartition(".")
        if home:
            setattr(sys.modules[home], own, module)
    return made


def sampled(nodes: Any, tiny: Path, **values: Any) -> Any:
    """Runs loader, encoder and sampler over `tiny`."""
    (loaded,) = nodes.NODE_CLASS_MAPPINGS["InfiniteTalkModelLoader"]().load(str(tiny))
    wave = torch.sin(torch.arange(16000) / 16000 * 700)[None, None] / 4
    audio = {"waveform": wave, "sample_rate": 16000}
    (voices,) = nodes.NODE_CLASS_MAPPINGS["InfiniteTalkAudioEncoder"]().encode(audio)
    sampler = nodes.NODE_CLASS_MAPPINGS["InfiniteTalkTalkSampler"]
    required = sampler.INPUT_TYPES()["required"]
    usual = {name: told[1]["default"] for name, told in required.items() if name not in ("model", "voices")}
    given = {"image": torch.rand(1, 96, 96, 3), "size": "64x64", **values}
    return sampler().sample(loaded, voices, **(usual | given))


def test_a_picture_becomes_a_saved_video(nodes: Any, host: Host, tiny_folder: Path, tmp_path: Path) -> None:
    video, images, audio, rate = sampled(nodes, tiny_folder)
    assert (images, audio, rate) == (None, None, None), "nobody asked for frames"
    assert Path(video.file).is_file()
    values = [value for value, _, _ in host.told]
    assert values == sorted(values)
    previews = [preview for _, _, preview in host.told if preview is not None]
    assert previews, "finished windows are shown"
    assert previews[0][1].size == (64, 64)
    combine = nodes.NODE_CLASS_MAPPINGS["InfiniteTalkVideoCombine"]()
    made = combine.combine(frame_rate=25.0, filename_prefix="talk", save_output=True, video=video)
    saved, (path,) = made["result"][0]
    assert saved is True
    assert Path(path) == tmp_path / "output" / "talk_00001_.mp4"
    assert Path(path).read_bytes() == Path(video.file).read_bytes()
    assert made["ui"]["gifs"][0]["filename"] == "talk_00001_.mp4"


def test_an_interrupted_video_goes_on(nodes: Any, host: Host, tiny_folder: Path, tmp_path: Path) -> None:
    image = torch.rand(1, 96, 96, 3)
    host.stop_early = True
    with pytest.raises(Interrupted):
        sampled(nodes, tiny_folder, image=image)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "temp").rglob("window-*.mp4")}
    assert kept
    first = min(kept)
    host.stop_early, host.told = False, []
    seen: list[int] = []
    original = host.stop

    def stop() -> None:
        original()
        if first.is_file():
            seen.append(first.stat().st_mtime_ns)

    sys.modules["comfy.model_management"].throw_exception_if_processing_interrupted = stop  # type: ignore[attr-defined]
    video, *_ = sampled(nodes, tiny_folder, image=image)
    assert Path(video.file).is_file()
    assert set(seen) == {kept[first]}, "the finished window was not made again"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"image": None}, "image = nothing: connect a picture to 'image' or a video to 'video', exactly one of them"),
        ({"video": Video("x.mp4")}, "image = both"),
        ({"image": torch.rand(2, 8, 8, 3)}, "image holds 2 pictures"),
        ({"size": "65x64"}, "65"),
    ],
)
def test_refusals_are_a_sentence(nodes: Any, host: Host, tiny_folder: Path, values: dict[str, Any], line: str) -> None:
    with pytest.raises(nodes.nodes.NodeError, match=line) as caught:
        sampled(nodes, tiny_folder, **values)
    assert caught.value.__suppress_context__
    assert "\n" not in str(caught.value)
    assert not host.told, "nothing was loaded"


def test_people_are_masks_or_boxes(nodes: Any) -> None:
    place = nodes.NODE_CLASS_MAPPINGS["InfiniteTalkPeopleMasks"]().place
    left = torch.zeros(1, 8, 8)
    left[..., :4] = 1
    (masks,) = place("", mask_1=left, mask_2=1 - left)
    assert len(masks["masks"]) == 2
    assert place("0,0,0.5,1; 0.5,0,1,1") == ({"boxes": "0,0,0.5,1; 0.5,0,1,1", "masks": []},)
    with pytest.raises(nodes.nodes.NodeError, match="holds 3 pictures"):
        place("", mask_1=torch.zeros(3, 8, 8))


def test_files_come_from_comfyuis_folders(nodes: Any, host: Host, tmp_path: Path) -> None:
    home = tmp_path / "models" / "diffusion_models"
    (home / "wan").mkdir(parents=True)
    (home / "base.safetensors").write_bytes(b"")
    (home / "wan" / "base-Q4_K_M.gguf").write_bytes(b"")
    loader = nodes.NODE_CLASS_MAPPINGS["InfiniteTalkModelLoader"]
    choices, _ = loader.INPUT_TYPES()["optional"]["diffusion_model"]
    assert choices == ["search", "base.safetensors", "wan/base-Q4_K_M.gguf"]
    with pytest.raises(nodes.nodes.NodeError, match=r"base\.safetensors"):
        loader().load("files below", diffusion_model="base.safetensors")
    (tmp_path / "models" / "infinitetalk" / "mine").mkdir(parents=True)
    assert "mine" in loader.INPUT_TYPES()["required"]["model"][0]
    with pytest.raises(nodes.nodes.NodeError, match="mine"):
        loader().load("mine")
    assert host.told == []
