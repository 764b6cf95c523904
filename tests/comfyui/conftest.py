"""The nodes, imported beside a stand-in for ComfyUI's `folder_paths` over a folder of the test's own."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

NODES = Path(__file__).parents[2] / "comfyui"
KINDS = ("diffusion_models", "model_patches", "text_encoders", "clip_vision", "vae", "audio_encoders")


def folder_paths(base: Path) -> ModuleType:
    """What the nodes use of ComfyUI's module of this name."""
    module = ModuleType("folder_paths")
    made: Any = module  # members come and go
    models = base / "models"
    homes = {kind: models / kind for kind in KINDS}
    made.base_path, made.models_dir = str(base), str(models)
    made.folder_names_and_paths = {kind: ([str(home)], set()) for kind, home in homes.items()}

    def add(kind: str, home: str) -> None:
        made.folder_names_and_paths.setdefault(kind, ([home], set()))

    def names(kind: str) -> list[str]:
        (home,), _ = made.folder_names_and_paths[kind]
        return sorted(path.name for path in Path(home).glob("*.safetensors"))

    made.add_model_folder_path = add
    made.get_folder_paths = lambda kind: list(made.folder_names_and_paths[kind][0])
    made.get_filename_list = names
    made.get_full_path_or_raise = lambda kind, name: str(Path(made.folder_names_and_paths[kind][0][0], name))
    made.get_temp_directory = lambda: str(base / "temp")
    made.get_output_directory = lambda: str(base / "output")
    made.get_save_image_path = lambda prefix, home: (home, prefix, 1, "", prefix)
    return module


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package of the nodes, as ComfyUI imports it: under a name that it makes up."""
    (tmp_path / "output").mkdir()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setitem(sys.modules, "folder_paths", folder_paths(tmp_path))
    name = "custom_nodes_infinitetalk"
    for known in [known for known in sys.modules if known.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, known)
    spec = spec_from_file_location(name, NODES / "__init__.py", submodule_search_locations=[str(NODES)])
    assert spec is not None
    assert spec.loader is not None
    package = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, package)
    spec.loader.exec_module(package)
    return package
