"""Main memory of a container: limits of control groups of both versions, read from a made-up kernel."""

from pathlib import Path

import pytest

from infinitetalk.core.units import GIB
from infinitetalk.runtime import platform
from infinitetalk.runtime.cgroups import Allowance, allowance


def write(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(f"{value}\n")


def test_the_tightest_group_counts_and_caches_are_free(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("0::/outer/inner\n")
    root = tmp_path / "root"
    write(root / "outer", memory__max=12 * GIB, memory__current=5 * GIB)
    write(root / "outer", memory__stat=f"anon {3 * GIB}\ninactive_file {GIB}\nactive_file {GIB}")
    write(root / "outer" / "inner", memory__max="max", memory__current=4 * GIB)
    assert allowance(root, tmp_path / "own") == Allowance(12 * GIB, 9 * GIB)


def test_version_1_has_a_folder_for_memory(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("4:cpu:/x\n3:memory:/job\n")
    files = {"memory__limit_in_bytes": 8 * GIB, "memory__usage_in_bytes": 2 * GIB}
    write(tmp_path / "root" / "memory" / "job", **files)
    assert allowance(tmp_path / "root", tmp_path / "own") == Allowance(8 * GIB, 6 * GIB)


def test_no_limit_is_no_allowance(tmp_path: Path) -> None:
    assert allowance(tmp_path, tmp_path / "nothing") is None
    (tmp_path / "own").write_text("0::/\n")
    assert allowance(tmp_path, tmp_path / "own") is None


def test_memory_is_never_more_than_the_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "allowance", lambda: Allowance(3 * GIB, GIB))
    assert (platform.total_memory(), platform.available_memory()) == (3 * GIB, GIB)
    monkeypatch.setattr(platform, "allowance", lambda: None)
    assert 0 < platform.available_memory() <= platform.total_memory()
