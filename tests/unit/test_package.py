"""The package's face: light to import, and every public name leads somewhere."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import infinitetalk


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


def test_version_is_the_project_s() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert infinitetalk.__version__ == project["project"]["version"]
