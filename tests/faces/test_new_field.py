"""A field that is added to the request, by one line and nothing else, is on every face."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import infinitetalk
from tests.faces.conftest import write_portrait, write_voice

SOURCE = Path(infinitetalk.__file__).parent
BEFORE = "    provenance: bool = knob("
NEW = """    glow: {kind} = knob({default}, "how much everybody glows at parties", OUTPUT{more})
"""

FACES = """
import json, sys
from pathlib import Path
import infinitetalk
assert Path(infinitetalk.__file__).parent == Path(sys.argv[1]) / "infinitetalk", infinitetalk.__file__
from infinitetalk.app.app import build
from infinitetalk.core.knobs import from_form
from infinitetalk.engine.job import Workshop
from infinitetalk.jobs.queue import JobQueue
from infinitetalk.server.app import create_app
from infinitetalk.server.settings import ServerSettings, Users
queue = JobQueue(Path(sys.argv[1]) / "jobs", Workshop("cpu"))
schema = create_app(queue, ServerSettings(users=Users.of({"anna": "0123456789abcdef0"}))).openapi()
found = schema["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]
queue.close()
request = from_form({"image": "a.png", "audio": ["b.wav"], "glow": sys.argv[2]})
fields = {name: body["schema"]["properties"]["glow"] for name, body in found.items()}
print(json.dumps(fields | {"value": request.glow}))
"""

PAGE = """
import json, sys
from pathlib import Path
from infinitetalk.app.app import serving
with serving("nano", host="127.0.0.1", port=None, share=False, device="cpu") as page:
    print(json.dumps(page.get_config_file(), default=str))
"""


class Added(NamedTuple):
    """A field and what faces make of it."""

    kind: str
    default: str
    more: str
    value: str
    typed: object
    shape: dict[str, object]


NUMBER = Added("float | None", "None", ", least=0, most=2", "1.5", 1.5, {"type": "number", "minimum": 0, "maximum": 2})
WHOLE = Added("int", "3", ", least=1, most=9, expert=True", "4", 4, {"type": "integer", "minimum": 1, "maximum": 9})


@pytest.mark.parametrize("added", [WHOLE, pytest.param(NUMBER, marks=pytest.mark.full)], ids=["whole", "number"])
def test_a_new_field_is_on_every_face(added: Added, tmp_path: Path) -> None:
    """In --help, in OpenAPI for forms and JSON, on the page, which is the notebook's form as well."""
    shutil.copytree(SOURCE, tmp_path / "infinitetalk", ignore=shutil.ignore_patterns("__pycache__"))
    request = tmp_path / "infinitetalk" / "core" / "request.py"
    text = request.read_text(encoding="utf-8")
    assert text.count(BEFORE) == 1
    line = NEW.format(kind=added.kind, default=added.default, more=added.more)
    request.write_text(text.replace(BEFORE, line + BEFORE), encoding="utf-8")

    def run(*words: str) -> str:
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        done = subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "how much everybody glows" in " ".join(run("-m", "infinitetalk", "generate", "--help").split())
    assert "--glow" in run("-m", "infinitetalk", "batch", "--help")
    schema = json.loads(run("-c", FACES, str(tmp_path), added.value))
    assert schema["value"] == added.typed
    for body in ("multipart/form-data", "application/json"):
        assert added.shape.items() <= schema[body].items()
        assert schema[body]["description"] == "how much everybody glows at parties"
    assert "how much everybody glows at parties" in run("-c", PAGE)
    picture, voice = write_portrait(tmp_path / "a.png"), write_voice(tmp_path / "b.wav", 0.3)
    words = ["generate", "--image", str(picture), "--audio", str(voice), "--glow", "-7", "--output", "c.mp4"]
    done = subprocess.run([sys.executable, "-m", "infinitetalk", *words], cwd=tmp_path, capture_output=True, text=True,
                          env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)}, check=False)  # fmt: skip
    assert done.returncode == 2 and "glow = -7" in done.stderr
