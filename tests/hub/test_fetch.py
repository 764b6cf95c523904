"""One file from the hub into the cache: whole, resumed, refused."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download, scan_cache_dir, try_to_load_from_cache
from huggingface_hub.utils import WeakFileLock

from infinitetalk.core.errors import InfiniteTalkError, MachineError, ModelError
from infinitetalk.weights.hub import fetch as fetching
from infinitetalk.weights.hub.client import Entry, Hub, describe, partial_path, present
from infinitetalk.weights.hub.fetch import fetch, verify
from tests.hub.fake_hub import Content, FakeHub
from tests.hub.small import ADAPTER, BIG, CONFIG, SMALL, SPEECH, TOKENIZER


def one(hub: Hub, fake_file: object = BIG) -> Entry:
    assert fake_file in SMALL.files
    (entry,) = describe(hub, [file for file in SMALL.files if file is fake_file])
    return entry


def content(fake: FakeHub, entry: Entry) -> bytes:
    commit = fake.commit(entry.repository, entry.commit)
    assert commit is not None
    return commit.files[entry.name].data


class Told(list[int]):
    def __call__(self, done: int) -> None:
        self.append(done)


def test_the_hub_tells_commit_size_hash_and_licence(fake: FakeHub, hub: Hub) -> None:
    fake.licences["some/adapter"] = "cc-by-4.0"
    entries = {entry.short: entry for entry in describe(hub, SMALL.files)}
    assert sorted(entries) == [
        "adapter.safetensors", "big.safetensors", "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    big, small = entries["big.safetensors"], entries["config.json"]
    stored = fake.repositories["some/base"]["main"].files["big.safetensors"]
    assert (big.size, big.blob, len(big.blob)) == (300_000, stored.sha256, 64)
    assert (small.size, len(small.blob)) == (26, 40)
    assert entries["adapter.safetensors"].licence == "cc-by-4.0", "the hub's word counts"
    assert big.licence == "apache-2.0", "and the table's where the hub says nothing"
    assert entries["model.safetensors"].commit == fake.repositories["some/speech"]["refs/pr/1"].sha
    assert small.commit == fake.repositories["some/speech"]["main"].sha
    infos = [request.path for request in fake.asked if request.path.startswith("/api/models/")]
    assert len(infos) == len(set(infos)) == 4, "each repository is asked once for each revision"


@pytest.mark.parametrize("file", [BIG, CONFIG, SPEECH, TOKENIZER], ids=lambda file: file.name)
def test_a_file_arrives_where_hugging_face_looks_for_it(fake: FakeHub, hub: Hub, file: object) -> None:
    entry = one(hub, file)
    told = Told()
    path = fetch(hub, entry, told)
    assert path.read_bytes() == content(fake, entry)
    assert told[-1] == entry.size
    assert path == Path(str(try_to_load_from_cache(entry.repository, entry.name, hub.cache, entry.revision)))
    assert not [request for request in fake.asked if request.method == "HEAD"]
    fake.asked.clear()
    again = hf_hub_download(
        entry.repository, entry.name, revision=entry.revision, cache_dir=hub.cache, endpoint=hub.endpoint
    )
    assert Path(again) == path
    assert not fake.bodies(entry.short), "its own library finds it and downloads nothing"
    (repository,) = scan_cache_dir(hub.cache).repos
    assert repository.size_on_disk == entry.size
    assert not scan_cache_dir(hub.cache).warnings


def test_the_token_goes_to_the_hub_and_not_to_its_storage(
    fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.token = "hf_secret"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(hub, one(hub), Told())
    seen = {request.server: request.headers.get("authorization") for request in fake.asked}
    assert seen == {"hub": "Bearer hf_secret", "storage": None}


def test_a_broken_connection_goes_on_where_it_broke(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub)
    fake.cuts[entry.name] = [100_000, 80_000]
    told = Told()
    path = fetch(hub, entry, told)
    assert path.read_bytes() == content(fake, entry)
    asked = [request.headers.get("range") for request in fake.bodies(entry.short) if request.server == "storage"]
    assert asked[0] is None
    assert len(asked) == 3
    starts = [int(str(given).removeprefix("bytes=").removesuffix("-")) for given in asked[1:]]
    assert 0 < starts[0] <= 100_000
    assert starts[0] < starts[1] <= starts[0] + 80_000
    assert list(told) == sorted(told)


def test_another_process_goes_on_where_this_one_broke_off(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub)
    fake.cuts[entry.name] = [120_000] + [0] * 20
    with pytest.raises(MachineError, match=r"big.safetensors: broken off at 1\d\d,\d\d\d of 300,000 bytes .*go on"):
        fetch(hub, entry, Told())
    kept = present(hub, entry)
    assert 0 < kept <= 120_000
    fake.cuts.clear()
    fake.asked.clear()
    assert fetch(hub, entry, Told()).read_bytes() == content(fake, entry)
    ranges = [request.headers.get("range") for request in fake.bodies(entry.short) if request.server == "storage"]
    assert ranges == [f"bytes={kept}-"]
    assert not partial_path(hub, entry).exists()


def test_a_hub_without_ranges_starts_anew(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub)
    fake.ranges = False
    fake.cuts[entry.name] = [100_000]
    assert fetch(hub, entry, Told()).read_bytes() == content(fake, entry)


@pytest.mark.parametrize("leftover", [b"something else", b"x" * 300_000, b"x" * 400_000], ids=("part", "whole", "more"))
def test_a_foreign_leftover_is_found_out(fake: FakeHub, hub: Hub, leftover: bytes) -> None:
    entry = one(hub)
    partial_path(hub, entry).parent.mkdir(parents=True)
    partial_path(hub, entry).write_bytes(leftover)
    if len(leftover) <= entry.size:
        with pytest.raises(MachineError, match="thrown away"):
            fetch(hub, entry, Told())
    assert fetch(hub, entry, Told()).read_bytes() == content(fake, entry)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(fake: FakeHub, hub: Hub, status: int) -> None:
    entry = one(hub)
    fake.statuses[entry.name] = [status, status]
    assert fetch(hub, entry, Told()).read_bytes() == content(fake, entry)


def test_a_hub_that_stays_broken_is_given_up(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub)
    fake.statuses[entry.name] = [503] * 20
    with pytest.raises(MachineError, match="the hub answers 503"):
        fetch(hub, entry, Told())
    assert len(fake.statuses[entry.name]) == 20 - fetching.TRIES


@pytest.mark.parametrize("lie", [b"y" * 300_000, b"y" * 299_000, b"y" * 301_000], ids=("hash", "short", "long"))
def test_wrong_content_is_thrown_away(fake: FakeHub, hub: Hub, lie: bytes) -> None:
    entry = one(hub)
    fake.lies[entry.name] = lie
    with pytest.raises(MachineError) as caught:
        fetch(hub, entry, Told())
    if len(lie) >= entry.size:
        assert "is not what it told" in str(caught.value)
        assert entry.blob in str(caught.value)
        assert present(hub, entry) == 0
    fake.lies.clear()
    assert fetch(hub, entry, Told()).read_bytes() == content(fake, entry)


def test_wrong_content_of_a_small_file_is_thrown_away(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub, CONFIG)
    fake.lies[entry.name] = b"z" * entry.size
    with pytest.raises(MachineError, match="is not what it told"):
        fetch(hub, entry, Told())


def test_a_damaged_file_of_another_size_is_replaced(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub)
    path = fetch(hub, entry, Told())
    with path.open("r+b") as file:
        file.truncate(1_000)
    assert present(hub, entry) == 0
    assert fetch(hub, entry, Told()).read_bytes() == content(fake, entry)


def test_verify_reads_the_content(hub: Hub) -> None:
    for file in (BIG, CONFIG):
        entry = one(hub, file)
        path = fetch(hub, entry, Told())
        assert verify(path, entry, Told())
        with path.open("r+b") as opened:
            opened.seek(3)
            opened.write(b"#")
        assert not verify(path, entry, Told())


def test_a_full_disk_is_said_and_what_came_before_is_kept(hub: Hub) -> None:
    # /dev/full refuses every byte exactly as a full disk does.
    entry = one(hub)
    partial_path(hub, entry).parent.mkdir(parents=True)
    partial_path(hub, entry).symlink_to("/dev/full")
    with pytest.raises(MachineError, match=r"big.safetensors: the disk of .* is full; make room"):
        fetch(hub, entry, Told())


def test_a_download_beside_another_of_the_same_file_is_refused(
    fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = one(hub)
    monkeypatch.setattr(fetching, "LOCK_TIMEOUT", 0.2)
    lock = hub.cache / ".locks" / hub.folder(entry.repository).name / f"{entry.blob}.lock"
    lock.parent.mkdir(parents=True)
    with WeakFileLock(lock), pytest.raises(MachineError, match="another program is downloading it"):
        fetch(hub, entry, Told())
    assert not fake.bodies(entry.short)
    assert fetch(hub, entry, Told()).is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said(hub: Hub) -> None:
    entry = one(hub)
    hub.cache.mkdir(parents=True)
    hub.cache.chmod(0o500)
    with pytest.raises(MachineError, match=f"cannot write to {hub.cache}"):
        fetch(hub, entry, Told())


def test_a_cache_whose_path_is_a_file_is_said(hub: Hub) -> None:
    entry = one(hub)
    hub.cache.parent.mkdir(parents=True, exist_ok=True)
    hub.cache.write_text("")
    with pytest.raises(MachineError, match=f"cannot write to {hub.cache}"):
        fetch(hub, entry, Told())


def refused(hub: Hub) -> InfiniteTalkError:
    with pytest.raises(InfiniteTalkError) as caught:
        describe(hub, [BIG, ADAPTER])
    assert "\n" not in str(caught.value)
    return caught.value


def test_401_names_the_token(fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.token = "right"
    assert "HF_TOKEN is not set" in str(refused(hub))
    monkeypatch.setenv("HF_TOKEN", "wrong")
    error = refused(hub)
    assert isinstance(error, ModelError)
    assert "some/base at main" in str(error)
    assert "holds one that it does not accept" in str(error)


def test_404_says_what_is_not_there(fake: FakeHub, hub: Hub) -> None:
    del fake.repositories["some/adapter"]["main"].files[ADAPTER.name]
    assert str(refused(hub)) == f"some/adapter at main: there is no {ADAPTER.name} in {fake.endpoint}"
    fake.repositories["some/adapter"] = {"next": fake.repositories["some/adapter"]["main"]}
    assert f"some/adapter at main: {fake.endpoint} does not have this revision" in str(refused(hub))
    del fake.repositories["some/adapter"]
    assert f"some/adapter at main: {fake.endpoint} does not have this repository" in str(refused(hub))


def test_404_of_a_file_that_vanished_meanwhile(fake: FakeHub, hub: Hub) -> None:
    entry = one(hub)
    del fake.repositories["some/base"]["main"].files["big.safetensors"]
    with pytest.raises(ModelError, match=r"some/base/big.safetensors: .* does not have this file"):
        fetch(hub, entry, Told())


def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Hub("http://127.0.0.1:9", hub.cache, hub.records)
    error = refused(nowhere)
    assert isinstance(error, MachineError)
    assert "http://127.0.0.1:9 cannot be reached" in str(error)
    assert "HF_ENDPOINT" in str(error)
    monkeypatch.setattr(fetching, "TIMEOUT", 1.0)
    with pytest.raises(MachineError, match="broken off at 0 of"):
        fetch(nowhere, one(hub), Told())


def test_a_server_that_is_no_hub(fake: FakeHub, hub: Hub) -> None:
    error = refused(Hub(fake.storage + "/api/models/x", hub.cache, hub.records))
    assert "\n" not in str(error)


def test_offline_the_cache_answers(fake: FakeHub, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = describe(hub, SMALL.files)
    for entry in entries[:-1]:
        fetch(hub, entry, Told())
    fake.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = Hub.from_environment()
    assert offline.offline
    assert describe(offline, SMALL.files[:-1]) == entries[:-1]
    with pytest.raises(ModelError, match=r"some/speech at refs/pr/1: there is no model.safetensors in the cache"):
        describe(offline, SMALL.files)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        fetch(offline, entries[-1], Told())
    assert not fake.asked


def test_a_size_alone_is_told_without_content(fake: FakeHub, hub: Hub) -> None:
    fake.add_file(BIG, Content(size=16_401_356_938, sha256="b2" * 32))
    assert one(hub).size == 16_401_356_938
