"""A job's finished windows in the store, from which any worker goes on.

    FOLDER/0001/window-00000.mp4 ...    what the first worker finished
    FOLDER/ledger-0001.json             which files are a journal together, as that worker left it

Each worker that takes a job writes to a folder of its own, so that one that is taken for dead and is not cannot spoil
what its follower does. A ledger is written after all that it names.
"""

import json
import re
from pathlib import Path

from infinitetalk.cluster.vault import Vault

_LEDGER = re.compile(r"ledger-(\d{4,})\.json")
_STAYS = re.compile(r"window-\d+\.\w+|state-\d+\.safetensors")
"""Files of a journal that are written once."""


class Ledger:
    """The ledger of one worker's turn.

    Args:
        vault: the store.
        folder: of the job in it.
        attempt: which turn this is, from 1.
    """

    def __init__(self, vault: Vault, folder: str, attempt: int) -> None:
        self._vault, self._folder, self._attempt = vault, folder, attempt
        self._files: dict[str, str] = {}

    @staticmethod
    def last(vault: Vault, folder: str) -> int:
        """The newest turn of which there is a ledger; 0 if there is none."""
        return max((int(found[1]) for name in vault.names(folder) if (found := _LEDGER.fullmatch(name))), default=0)

    def fetch(self, journal: Path) -> int:
        """Copies the newest ledger's files to a journal's folder, which is made; gives how many windows are finished.

        Raises:
            MachineError: the store cannot be read.
        """
        journal.mkdir(parents=True, exist_ok=True)
        newest = self.last(self._vault, self._folder)
        content = self._vault.read(f"{self._folder}/ledger-{newest:04}.json") if newest else None
        if content is None:
            return 0
        ledger = json.loads(content)
        for name, place in ledger["files"].items():
            self._vault.get(place, journal / name)
        self._files = dict(ledger["files"])
        return int(ledger["windows"])

    def forget(self) -> None:
        """Takes nothing of earlier turns for granted any more: the job is begun anew."""
        self._files = {}

    def keep(self, journal: Path) -> None:
        """Copies what is new in a journal's folder to the store; when it returns, a lost machine loses no window.

        Raises:
            MachineError: the store cannot be written.
        """
        windows = json.loads((journal / "journal.json").read_text(encoding="utf-8"))["windows"]
        files = {}
        for path in sorted(journal.iterdir()):
            if path.name == "lock" or path.suffix == ".new":
                continue
            if _STAYS.fullmatch(path.name):
                files[path.name] = self._files.get(path.name) or self._put(path, path.name)
            else:
                files[path.name] = self._put(path, f"{windows:05}-{path.name}")
        content = json.dumps({"windows": windows, "files": files})
        self._vault.write(f"{self._folder}/ledger-{self._attempt:04}.json", content.encode())
        mine = f"{self._folder}/{self._attempt:04}/"
        for place in set(self._files.values()) - set(files.values()):
            if place.startswith(mine):
                self._vault.remove(place)
        self._files = files

    def clear(self) -> None:
        """Deletes all turns: the video is complete."""
        self._vault.remove(self._folder)

    def _put(self, path: Path, name: str) -> str:
        place = f"{self._folder}/{self._attempt:04}/{name}"
        self._vault.put(path, place)
        return place
