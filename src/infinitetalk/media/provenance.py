"""C2PA manifests: a video says, signed, that a machine made it; and what a file says is checked."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infinitetalk.core.errors import MachineError, MediaError, RequestError
from infinitetalk.core.version import own_version
from infinitetalk.media.certificate import Credentials, credentials
from infinitetalk.media.paths import require_file

if TYPE_CHECKING:
    from c2pa import Reader

AI_GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

SETTINGS_LABEL = "infinitetalk.settings"

# Nothing is fetched: a check works without a network, and asks nobody about the user's files.
_OFFLINE = {"verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False}}


@dataclass(frozen=True, slots=True)
class Seal:
    """Signs finished videos."""

    model: str
    settings_sha256: str
    """As in the JSON file beside the video."""
    signed_with: Credentials

    @classmethod
    def open(cls, folder: Path, model: str, settings_sha256: str) -> "Seal":
        """Reads or makes the certificate in a folder and tries it, so that no finished video waits for a signature.

        Raises:
            RequestError: a certificate that cannot be used.
            MachineError: c2pa-python is missing, or the folder cannot be made.
        """
        try:
            import c2pa
        except ImportError as error:
            raise MachineError(
                f"provenance needs c2pa-python ({error}): pip install c2pa-python, or leave it out by --no-provenance"
            ) from error
        from PIL import Image

        seal = cls(model, settings_sha256, credentials(folder))
        trial = io.BytesIO()
        Image.new("RGB", (1, 1)).save(trial, "png")
        trial.seek(0)
        try:
            seal._sign("png", trial, io.BytesIO())
        except c2pa.C2paError as error:
            need = f"C2PA does not accept its certificate or key ({error})"
            raise RequestError(
                "signing", folder, f"{need} ({error}); --no-provenance leaves the manifest out"
            ) from error
        return seal

    def sign(self, video: Path, signed: Path) -> None:
        """Writes a copy of a video that carries the manifest.

        Raises:
            MachineError: the disk is full or gone.
        """
        import c2pa

        try:
            with video.open("rb") as source, signed.open("w+b") as target:
                self._sign("video/mp4", source, target)
        except (OSError, c2pa.C2paError) as error:
            raise MachineError(f"{signed}: the signed video cannot be written ({error}); check the disk") from error

    def _sign(self, kind: str, source: Any, target: Any) -> None:
        import c2pa

        chain, key, algorithm = self.signed_with
        # Without a timestamp service, which would need a network and hear of every video.
        info = c2pa.C2paSignerInfo(algorithm.encode(), chain, key, None)
        with c2pa.Signer.from_info(info) as signer, c2pa.Builder(self.manifest()) as builder:
            builder.sign(signer, kind, source, target)

    def manifest(self) -> dict[str, Any]:
        """What is signed. No name of a file, no prompt and nothing of the user is in it."""
        program = {"name": "infinitetalk", "version": own_version()}
        made = {"action": "c2pa.created", "digitalSourceType": AI_GENERATED, "softwareAgent": program}
        settings = {"model": self.model, "settings_sha256": self.settings_sha256}
        return {
            "claim_generator_info": [program],
            "title": "AI-generated video",
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [made]}},
                {"label": SETTINGS_LABEL, "data": settings},
            ],
        }


class Verdict(StrEnum):
    """What is known of a file."""

    TRUSTED = "intact, signer trusted"
    UNTRUSTED = "intact, signer not trusted"
    ALTERED = "altered"
    NONE = "none"

    @property
    def intact(self) -> bool:
        """Whether the file is as it was signed."""
        return self in (Verdict.TRUSTED, Verdict.UNTRUSTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A file's manifest, checked. Unless the file is intact, the rest says what somebody claims."""

    verdict: Verdict
    ai_generated: bool = False
    signer: str | None = None
    made_by: str | None = None
    model: str | None = None
    settings_sha256: str | None = None
    problems: Sequence[str] = ()
    """C2PA's own codes of what is wrong."""


def check_media(path: Path, trusted: Path | None = None) -> Checked:
    """Checks the manifest of a video, picture or sound.

    Args:
        path: the file.
        trusted: PEM certificates of authorities whose signers are trusted; without any, nobody is.

    Raises:
        MediaError: a file that cannot be read or is of no kind that can carry a manifest.
        RequestError: certificates that cannot be read.
    """
    import c2pa

    require_file(path, "video")
    kind = path.suffix.lower().removeprefix(".")
    kinds = set(c2pa.Reader.get_supported_mime_types())
    if kind not in kinds:
        raise MediaError(path, "files of this kind carry no C2PA manifest; give an .mp4, .mov, .jpg or .png")
    settings = _OFFLINE if trusted is None else _OFFLINE | {"trust": {"trust_anchors": _anchors(trusted)}}
    with c2pa.Context.from_dict(settings) as context, path.open("rb") as file:
        try:
            with c2pa.Reader(kind, file, context=context) as reader:
                return _judged(reader)
        except c2pa.C2paError.ManifestNotFound:
            return Checked(verdict=Verdict.NONE)
        except c2pa.C2paError.Io as error:
            raise MediaError(path, f"cannot be read ({error}); give a whole file") from error
        except c2pa.C2paError as error:  # something is there, and it is no manifest any more
            return Checked(verdict=Verdict.ALTERED, problems=(str(error),))


def _anchors(path: Path) -> str:
    from cryptography import x509

    try:
        content = path.read_bytes()
        x509.load_pem_x509_certificates(content)
        return content.decode()
    except (OSError, ValueError) as error:
        raise RequestError("trust", path, f"holds no PEM certificates ({error}); give an authority's .pem") from error


def _judged(reader: "Reader") -> Checked:
    found = json.loads(reader.json())
    manifest = found["manifests"][found["active_manifest"]]
    results = found.get("validation_results", {}).get("activeManifest", {})
    passed, failed = ([entry["code"] for entry in results.get(part, ())] for part in ("success", "failure"))
    said = {entry["label"]: entry["data"] for entry in manifest.get("assertions", ())}
    program: Mapping[str, Any] = next(iter(manifest.get("claim_generator_info", ())), {})
    settings = said.get(SETTINGS_LABEL, {})
    return Checked(
        verdict=_verdict(passed, failed),
        ai_generated=_says_generated(said),
        signer=manifest.get("signature_info", {}).get("common_name"),
        made_by=" ".join(str(program[name]) for name in ("name", "version") if name in program) or None,
        model=settings.get("model"),
        settings_sha256=settings.get("settings_sha256"),
        problems=tuple(dict.fromkeys(failed)),
    )


def _verdict(passed: Sequence[str], failed: Sequence[str]) -> Verdict:
    """Intact is what was found whole, not what nothing was found wrong with."""
    whole = "claimSignature.validated" in passed and any(code.endswith("Hash.match") for code in passed)
    if not whole or any(not code.startswith("signingCredential.") for code in failed):
        return Verdict.ALTERED
    return Verdict.UNTRUSTED if failed or "signingCredential.trusted" not in passed else Verdict.TRUSTED


def _says_generated(said: Mapping[str, Any]) -> bool:
    actions = [action for label, data in said.items() if label.startswith("c2pa.actions") for action in data["actions"]]
    return any(
        action.get("action") == "c2pa.created" and action.get("digitalSourceType") == AI_GENERATED for action in actions
    )
