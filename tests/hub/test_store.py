"""Records: what belongs to a model, what is shared, what a removal may take away."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download

from infinitetalk.core.errors import MachineError, ModelError
from infinitetalk.core.presets import Preset
from infinitetalk.weights.hub.client import Hub, cached, partial_path
from infinitetalk.weights.hub.download import RESERVE, check_possible, download, room, wanted
from infinitetalk.weights.hub.store import (
    Held,
    Record,
    forget,
    names,
    plan,
    read,
    record_path,
    removal,
    remove,
    replace_dit,
    write,
)
from tests.hub.fake_hub import FakeHub
from tests.hub.small import BIG, CONFIG, OTHER, SMALL, SPEECH

DISK_USAGE = "infinitetalk.weights.hub.download.disk_usage"


class Silent:
    def __init__(self) -> None:
        self.seen: list[tuple[str, str, int]] = []

    def begin(self, held: Held, here: int, /) -> None:
        self.seen.append(("begin", held.entry.short, here))

    def move(self, held: Held, here: int, /) -> None:
        self.seen.append(("move", held.entry.short, here))

    def end(self, held: Held, /) -> None:
        self.seen.append(("end", held.entry.short, held.entry.size))


def get(hub: Hub, preset: Preset) -> Record:
    record = plan(hub, preset)
    download(hub, record, wanted(record, None), Silent())
    return record


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def on_disk(hub: Hub) -> int:
    """Bytes of all content in the cache, whole or not; links, locks and marks do not count."""
    stored = (path for path in hub.cache.glob("models--*/**/*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in stored if "refs" not in path.parts)


def test_a_record_comes_back_as_it_was_written(hub: Hub) -> None:
    record = get(hub, SMALL)
    assert read(hub, "small") == record
    assert names(hub) == ("small",)
    assert not record.lacking(hub)
    assert [path.name for path in record.paths(hub)] == [
        "big.safetensors", "adapter.safetensors", "tokenizer.json", "config.json", "model.safetensors",
    ]  # fmt: skip
    assert all(path.is_relative_to(hub.cache) for path in record.paths(hub))


def test_progress_is_told_for_every_file(hub: Hub) -> None:
    record, silent = plan(hub, SMALL), Silent()
    download(hub, record, wanted(record, None), silent)
    ends = [(name, size) for event, name, size in silent.seen if event == "end"]
    assert ends == [(held.entry.short, held.entry.size) for held in record.files]
    moves = [done for event, name, done in silent.seen if event == "move" and name == "big.safetensors"]
    assert moves[-1] == 300_000
    assert len(moves) > 3


def test_two_models_share_a_file(fake: FakeHub, hub: Hub) -> None:
    small = get(hub, SMALL)
    taken, asked = on_disk(hub), len(fake.bodies("big.safetensors"))
    other = get(hub, OTHER)
    assert on_disk(hub) == taken == small.size
    assert len(fake.bodies("big.safetensors")) == asked
    assert all(held.ours for held in other.files), "what one preset brought belongs to the next as well"


def test_removing_one_of_two_keeps_what_the_other_needs(hub: Hub) -> None:
    small, other = get(hub, SMALL), get(hub, OTHER)
    found = removal(hub, small)
    assert {held.entry.short for held in found.free} == {"adapter.safetensors", "tokenizer.json", "config.json"}
    assert {(held.entry.short, name) for held, name in found.shared} == {
        ("big.safetensors", "other"), ("model.safetensors", "other"),
    }  # fmt: skip
    before = on_disk(hub)
    freed = remove(hub, small)
    assert freed == sum(held.entry.size for held in found.free) == before - on_disk(hub)
    assert not other.lacking(hub)
    assert names(hub) == ("other",)
    assert remove(hub, other) == other.size
    assert on_disk(hub) == 0
    assert not list(hub.cache.glob("models--*"))


def test_a_file_that_was_here_before_is_never_removed(hub: Hub) -> None:
    mine = Path(hf_hub_download("some/base", BIG.name, cache_dir=hub.cache, endpoint=hub.endpoint))
    record = get(hub, SMALL)
    found = removal(hub, record)
    assert [held.entry.short for held in found.foreign] == ["big.safetensors"]
    remove(hub, record)
    assert mine.stat().st_size == 300_000
    assert {path.rsplit("/")[-1] for path in files_in(hub.cache) if "/snapshots/" in path} == {"big.safetensors"}


def test_a_commit_that_another_program_uses_keeps_its_content(fake: FakeHub, hub: Hub) -> None:
    record = get(hub, SMALL)
    fake.add("some/base", BIG.name, fake.repositories["some/base"]["main"].files[BIG.name], revision="later")
    theirs = Path(hf_hub_download("some/base", BIG.name, revision="later", cache_dir=hub.cache, endpoint=hub.endpoint))
    remove(hub, record)
    assert theirs.stat().st_size == 300_000


def test_content_of_another_commit_is_not_downloaded_again(fake: FakeHub, hub: Hub) -> None:
    fake.add("some/base", BIG.name, fake.repositories["some/base"]["main"].files[BIG.name], revision="earlier")
    hf_hub_download("some/base", BIG.name, revision="earlier", cache_dir=hub.cache, endpoint=hub.endpoint)
    fake.asked.clear()
    record = get(hub, SMALL)
    assert not fake.bodies(BIG.name)
    assert on_disk(hub) == record.size
    assert record.paths(hub)[0].stat().st_size == 300_000


def test_an_unfinished_download_goes_on_from_its_record(fake: FakeHub, hub: Hub) -> None:
    record = plan(hub, SMALL)
    fake.cuts["folder/adapter.safetensors"] = [10_000] + [0] * 20
    with pytest.raises(MachineError, match="broken off"):
        download(hub, record, wanted(record, None), Silent())
    begun = read(hub, "small")
    assert begun is not None
    assert 300_000 < begun.present(hub) < begun.size
    with pytest.raises(ModelError, match=r"model small lacks adapter.safetensors, .*: infinitetalk download small"):
        begun.paths(hub)
    fake.cuts.clear()
    fake.add("some/base", BIG.name, b"a newer file" * 1_000)
    fake.asked.clear()
    assert plan(hub, SMALL) == begun, "the commits of the first try stay"
    assert not [request for request in fake.asked if request.path.startswith("/api/models/")]
    download(hub, begun, wanted(begun, None), Silent())
    assert not begun.lacking(hub)


def test_an_unfinished_download_can_be_removed(fake: FakeHub, hub: Hub) -> None:
    record = plan(hub, SMALL)
    fake.cuts[BIG.name] = [10_000] + [0] * 20
    with pytest.raises(MachineError):
        download(hub, record, wanted(record, None), Silent())
    assert partial_path(hub, record.files[0].entry).is_file()
    assert 0 < remove(hub, record) <= 10_000
    assert on_disk(hub) == 0


def test_a_record_with_other_files_is_not_taken(hub: Hub) -> None:
    get(hub, SMALL)
    changed = Preset(name="small", card="", summary="", people=1, files=(BIG, CONFIG))
    with pytest.raises(ModelError, match="another version with other files; run: infinitetalk models --remove small"):
        plan(hub, changed)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values.update(format=9), "reads format 1"),
        (lambda values: values["files"][0].update(name="../../../etc/passwd"), "is no file of a cache"),
        (lambda values: values["files"][0].update(name="/etc/passwd"), "is no file of a cache"),
        (lambda values: values["files"][0].update(commit="../x"), "is no file of a cache"),
        (lambda values: values["files"][0].update(blob="../x"), "is no file of a cache"),
        (lambda values: values["files"][0].update(repository="../.."), "is no file of a cache"),
        (lambda values: values["files"][0].update(role="engine"), "cannot be understood"),
        (lambda values: values["files"][0].pop("size"), "cannot be understood"),
        (lambda values: values.pop("files"), "cannot be understood"),
    ],
)
def test_a_damaged_record_is_refused(hub: Hub, change: object, told: str) -> None:
    get(hub, SMALL)
    values = json.loads(record_path(hub, "small").read_text())
    change(values)  # type: ignore[operator]
    record_path(hub, "small").write_text(json.dumps(values))
    with pytest.raises(ModelError, match=told):
        read(hub, "small")
    forget(hub, "small")
    assert names(hub) == ()


def test_a_download_that_does_not_fit_is_refused_before_it_begins(
    fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = plan(hub, SMALL)
    files = wanted(record, None)
    real = shutil.disk_usage
    need = record.size + RESERVE
    monkeypatch.setattr(DISK_USAGE, lambda path: real(path)._replace(free=need))
    check_possible(hub, files, room(hub, files))
    monkeypatch.setattr(DISK_USAGE, lambda path: real(path)._replace(free=need - 10**8))
    with pytest.raises(MachineError, match=r"make 0\.1 GB free, or set HF_HOME"):
        check_possible(hub, files, room(hub, files))
    assert not fake.bodies("big.safetensors")
    assert not hub.cache.exists()


def test_what_is_here_needs_no_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    record = get(hub, SMALL)
    real = shutil.disk_usage
    monkeypatch.setattr(DISK_USAGE, lambda path: real(path)._replace(free=0))
    files = wanted(record, None)
    found = room(hub, files)
    assert found.lacking == 0
    check_possible(hub, files, found)


def test_a_converted_transformer_takes_the_place_of_its_files(hub: Hub, tmp_path: Path) -> None:
    get(hub, OTHER)
    record = get(hub, SMALL)
    converted = tmp_path / "converted"
    converted.mkdir()
    changed = replace_dit(hub, record, converted)
    assert changed == read(hub, "small")
    assert changed.paths(hub)[0] == converted
    assert [path.name for path in changed.paths(hub)[1:]] == ["tokenizer.json", "config.json", "model.safetensors"]
    big, adapter = (held.entry for held in changed.files[:2])
    assert cached(hub, adapter) is None
    assert cached(hub, big) is not None, "another model needs it"
    assert plan(hub, SMALL) == changed
    assert room(hub, wanted(changed, None)).lacking == 0


def test_without_symbolic_links_a_file_is_stored_once_too(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows, as most people have it."""
    monkeypatch.setattr("infinitetalk.weights.hub.fetch.are_symlinks_supported", lambda _cache: False)
    small = get(hub, SMALL)
    assert on_disk(hub) == small.size
    assert not any(path.is_symlink() for path in small.paths(hub))
    assert read(hub, "small") == small
    other = get(hub, OTHER)
    assert on_disk(hub) == small.size
    assert remove(hub, small) == 50_039
    assert not other.lacking(hub)
    assert remove(hub, other) == other.size
    assert on_disk(hub) == 0


def test_a_folder_of_records_that_cannot_be_written(hub: Hub) -> None:
    hub.records.parent.mkdir(parents=True)
    hub.records.write_text("")
    with pytest.raises(MachineError, match=f"cannot write to {hub.records}"):
        write(hub, plan(hub, SMALL))


def test_speech_comes_from_its_own_revision(hub: Hub) -> None:
    record = get(hub, SMALL)
    speech = {held.entry.wanted: held.entry.commit for held in record.files if held.entry.repository == "some/speech"}
    assert len(set(speech.values())) == 2
    ref = hub.folder("some/speech") / "refs" / "refs" / "pr" / "1"
    assert ref.read_text() == speech[SPEECH.name]
