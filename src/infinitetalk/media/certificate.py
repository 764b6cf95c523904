"""The certificate that videos are signed with: the user's own, or one made here the first time it is needed.

signing/                  readable by its owner alone
    certificate.pem       the signer's certificate, then those that vouch for it
    key.pem               its private key, PKCS 8 without a password
    authority.pem         of a locally made one: what others name to trust it
"""

import datetime
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from infinitetalk.core.errors import MachineError, RequestError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

CERTIFICATE, KEY, AUTHORITY = "certificate.pem", "key.pem", "authority.pem"

_YEARS: Final = 10


class Credentials(NamedTuple):
    """What a signature is made with."""

    chain: bytes
    """PEM certificates, the signer's first."""
    key: bytes
    """The private key, PEM."""
    algorithm: str
    """C2PA's name of the signature's method."""


def credentials(folder: Path) -> Credentials:
    """Reads the certificate and key of a folder; a folder that is not there is made, with a certificate of its own.

    Raises:
        RequestError: files that are missing, cannot be read or do not belong together, or a certificate out of date.
        MachineError: the folder cannot be made.
    """
    if not folder.exists():
        _make(folder)
    try:
        chain, key = ((folder / name).read_bytes() for name in (CERTIFICATE, KEY))
    except OSError as error:
        need = f"cannot be read ({error.strerror}); it must hold {CERTIFICATE} and {KEY}, or not be there"
        raise _refused(folder, need) from error
    return Credentials(chain, key, _algorithm(folder, chain, key))


def _refused(folder: Path, need: str) -> RequestError:
    return RequestError("signing", folder, f"{need}; --no-provenance leaves the manifest out")


def _algorithm(folder: Path, chain: bytes, key: bytes) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificates(chain)[0]
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, IndexError) as error:
        raise _refused(folder, f"{CERTIFICATE} or {KEY} is no PEM without a password ({error})") from error
    if private.public_key() != certificate.public_key():
        raise _refused(folder, f"{KEY} is not the key of {CERTIFICATE}")
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise _refused(folder, f"{CERTIFICATE} is out of date ({certificate.not_valid_after_utc:%Y-%m-%d})")
    if isinstance(private, ec.EllipticCurvePrivateKey):
        names = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
        if private.curve.name in names:
            return names[private.curve.name]
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        return "ed25519"
    elif isinstance(private, rsa.RSAPrivateKey):
        return "ps256"
    raise _refused(folder, f"{KEY} is of a kind that C2PA lacks; P-256, P-384, P-521, Ed25519 or RSA would work")


def _make(folder: Path) -> None:
    """Fills the folder in one move, so that no other process sees half of it."""
    fresh = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".signing-"))  # readable by its owner alone
        for name, content in _issue().items():
            with os.fdopen(os.open(fresh / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        fresh.rename(folder)
    except OSError as error:
        if not folder.is_dir():  # another process was quicker
            reason = f"cannot be made ({error.strerror}); --no-provenance leaves the manifest out"
            raise MachineError(f"signing folder {folder}: {reason}") from error
    finally:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)


def _issue() -> dict[str, bytes]:
    """A new certificate, vouched for by an authority whose key nobody keeps.

    C2PA refuses certificates that sign themselves.
    """
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    above, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate(above, above, authority=True)
    certificate = _certificate(key, above, authority=False)
    return {
        CERTIFICATE: certificate.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM),
        KEY: key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        AUTHORITY: authority.public_bytes(Encoding.PEM),
    }


def _certificate(
    key: "EllipticCurvePrivateKey", issuer: "EllipticCurvePrivateKey", *, authority: bool
) -> "Certificate":
    """The certificate of a key, signed by the authority's, as C2PA's profile of certificates asks."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import ExtendedKeyUsageOID

    above, own = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in _NAMES)
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(_USES, False) | dict.fromkeys(_AUTHORITY_USES if authority else _SIGNER_USES, True)
    builder = (
        x509.CertificateBuilder()
        .subject_name(above if authority else own)
        .issuer_name(above)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), critical=True)
        .add_extension(x509.KeyUsage(**usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False)
    )
    if not authority:
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(issuer, SHA256())


_NAMES = ("infinitetalk local authority", "infinitetalk local signer")
_AUTHORITY_USES, _SIGNER_USES = ("key_cert_sign", "crl_sign"), ("digital_signature",)
_USES = (
    *_AUTHORITY_USES,
    *_SIGNER_USES,
    *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
)
