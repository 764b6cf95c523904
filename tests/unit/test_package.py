"""The package's face: light to import, and every public name leads somewhere."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import infinitetalk

ROOT = Path(__file__).parents[2]
ABSENT = ("av", "rich", "gradio", "soxr", "pyloudnorm", "ftfy", "sentencepiece")
"""Libraries that a bare GPU machine may lack."""

BARE_IMPORTS = f"""
import importlib, pkgutil, sys
from importlib.machinery import PathFinder

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in {ABSENT} else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
parts = ("core", "ops", "models", "diffusion", "weights", "runtime", "engine")
names = [f"infinitetalk.{{part}}" for part in parts] + ["training"]
found = [module.name for name in names
         for module in pkgutil.walk_packages(importlib.import_module(name).__path__, name + ".")]
for name in found:
    importlib.import_module(name)
print(*found)
assert not sys.modules.keys() & set({ABSENT})
"""


def test_importing_loads_nothing_heavy() -> None:
    heavy = "('torch', 'numpy', 'transformers', 'av')"
    code = f"import sys, infinitetalk; print(*(name for name in {heavy} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == ""


def test_public_names_exist() -> None:
    for name in infinitetalk.__all__:
        assert getattr(infinitetalk, name) is not None
        assert name in dir(infinitetalk)


def test_unknown_names_are_missing_attributes() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        infinitetalk.Motor  # noqa: B018


def test_version_is_the_installed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert infinitetalk.__version__ == version("infinitetalk")

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("infinitetalk.core.version.version", missing)
    assert infinitetalk.__version__ == "0+unknown", "sources that run without being installed"


def test_engine_networks_and_training_import_on_a_bare_gpu_machine() -> None:
    command = [sys.executable, "-c", BARE_IMPORTS]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert answer.returncode == 0, answer.stderr
    found = answer.stdout.split()
    assert {"infinitetalk.engine.engine", "infinitetalk.models.text", "training.nano.train_dit"} <= set(found)
