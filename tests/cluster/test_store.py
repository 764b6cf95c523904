"""The store: files are whole or not there, on every kind of store; and what cannot be one is refused in a line."""

import uuid
from pathlib import Path

import pytest

from infinitetalk.cluster.vault import Vault
from infinitetalk.core.errors import MachineError, RequestError


@pytest.fixture(params=["memory", "file", "path"])
def vault(request: pytest.FixtureRequest, tmp_path: Path) -> Vault:
    memory, file = f"memory://{uuid.uuid4().hex}/talks", f"file://{tmp_path}/talks/"
    places = {"memory": memory, "file": file, "path": str(tmp_path)}
    return Vault(places[request.param])


def test_files_come_back(vault: Vault, tmp_path: Path) -> None:
    here = tmp_path / "here.bin"
    here.write_bytes(b"\0one")
    vault.put(here, "a/b/one.bin")
    vault.write("a/two.json", b"2")
    vault.write("a/two.json", b"22")
    assert vault.read("a/two.json") == b"22" and vault.read("a/three") is None
    assert vault.has("a/b/one.bin") and not vault.has("a/b") and not vault.has("none")
    assert vault.names("a") == ["two.json"] and vault.names("a/b") == ["one.bin"] and vault.names("none") == []
    vault.get("a/b/one.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == b"\0one"
    again = Vault(vault.url)
    assert again.url == vault.url and again.read("a/two.json") == b"22"
    vault.remove("a")
    vault.remove("a")
    assert vault.names("a/b") == [] and vault.read("a/two.json") is None
    with pytest.raises(MachineError, match=r"one\.bin: cannot be read"):
        vault.get("a/b/one.bin", tmp_path / "back.bin")


def test_nobody_sees_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = Vault(str(tmp_path / "store"))
    vault.write("one", b"before")

    def break_off(target: str, _content: bytes) -> None:
        Path(target).write_bytes(b"aft")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(vault._files, "pipe_file", break_off)
    with pytest.raises(MachineError, match="No space left on device"):
        vault.write("one", b"after")
    assert vault.read("one") == b"before" and vault.names("") == ["one"]


def test_a_file_that_is_being_written_is_not_there_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who copies all that is in a folder would copy half a file, under a name that nobody knows."""
    vault, seen = Vault(str(tmp_path / "store")), list[tuple[list[str], int]]()
    vault.write("preview/one", b"1")

    def watched(target: str, content: bytes) -> None:
        Path(target).write_bytes(content)
        seen.append((vault.names("preview"), len(list(Path(target).parent.iterdir()))))

    monkeypatch.setattr(vault._files, "pipe_file", watched)
    vault.write("preview/two", b"2")
    assert seen == [(["one"], 2)] and vault.names("preview") == ["one", "two"]


def test_a_store_of_one_process_is_told_from_others(tmp_path: Path) -> None:
    assert not Vault("memory://x").shared and Vault(str(tmp_path)).shared


@pytest.mark.parametrize("url", ["nowhere://bucket/x", "s4://bucket"])
def test_what_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match=f"store = {url}: cannot be used"):
        Vault(url)
