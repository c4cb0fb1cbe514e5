"""Signatures of decisions and versions: Ed25519 keys, DSSE's envelope, in-toto's statement of files and their SHA-256.

The private key is a file that SEGOPS_SIGNING_KEY names; public keys are in params, `tracking.decision_keys` and
`tracking.version_keys`, so that whoever uses the project believes the same. Nothing here asks the network.
Formats: github.com/secure-systems-lab/dsse (protocol.md) and github.com/in-toto/attestation (statement v1).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from segops.errors import UserError
from segops.files import parse_json, sha256_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

KEY_VARIABLE, PASSWORD_VARIABLE = "SEGOPS_SIGNING_KEY", "SEGOPS_SIGNING_PASSWORD"
FILE = "model.sig"  # among the files of a version
DECISION = "application/vnd.segops.decision+json"
STATEMENT = "application/vnd.in-toto+json"
_STATEMENT_TYPE, _PREDICATE = "https://in-toto.io/Statement/v1", "https://segops.dev/model-version/v1"


@dataclass(frozen=True)
class Signer:
    """Signs with a private key."""

    key: Ed25519PrivateKey

    def sign(self, kind: str, payload: bytes) -> str:
        """Sign a payload of this kind (a media type) and return the signature in base64."""
        return base64.b64encode(self.key.sign(_encoded(kind, payload))).decode()

    @property
    def keys(self) -> Keys:
        """Return the public half of the key, which verifies."""
        return Keys((self.key.public_key(),))


@dataclass(frozen=True)
class Keys:
    """Holds the believed public keys, any one of which may have signed."""

    public: tuple[Ed25519PublicKey, ...]

    def signed(self, kind: str, payload: bytes, signature: str | None) -> bool:
        """Tell whether one of the keys made this signature of this payload."""
        from cryptography.exceptions import InvalidSignature

        try:
            raw = base64.b64decode(signature or "", validate=True)
        except ValueError:
            return False
        for key in self.public:
            try:
                key.verify(raw, _encoded(kind, payload))
            except InvalidSignature:
                continue
            return True
        return False

    def has(self, signer: Signer) -> bool:
        """Tell whether the signer's key is one of these."""
        return shown(signer.key.public_key()) in map(shown, self.public)


@dataclass(frozen=True)
class Envelope:
    """Holds a signed statement of the files of a version, the text of `model.sig`."""

    text: str

    @cached_property
    def files(self) -> dict[str, str]:
        """Return the stated SHA-256 by path; empty if the text is no such statement."""
        try:
            statement = parse_json(self._payload)
            named = {file["name"]: file["digest"]["sha256"] for file in statement["subject"]}
        except (ValueError, KeyError, TypeError):
            return {}
        return named if statement.get("_type") == _STATEMENT_TYPE else {}

    @cached_property
    def _payload(self) -> bytes:
        """Decode the signed bytes."""
        return base64.b64decode(parse_json(self.text)["payload"], validate=True)

    def signed_by(self, keys: Keys) -> bool:
        """Tell whether a believed key signed the statement."""
        try:
            signatures = [signature["sig"] for signature in parse_json(self.text)["signatures"]]
            return bool(self.files) and any(
                keys.signed(STATEMENT, self._payload, signature) for signature in signatures
            )
        except (ValueError, KeyError, TypeError):
            return False


def seal(signer: Signer, files: Mapping[str, str], about: Mapping[str, str]) -> str:
    """Sign a statement of these files and return it in its envelope, as JSON.

    Args:
        files: SHA-256 by path.
        about: what else is stated, such as the registered model's name.
    """
    statement = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)],
        "predicateType": _PREDICATE,
        "predicate": dict(about),
    }
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    envelope = {
        "payloadType": STATEMENT,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"sig": signer.sign(STATEMENT, payload)}],
    }
    return json.dumps(envelope, sort_keys=True) + "\n"


def wrong_files(folder: Path, names: Mapping[str, str], envelope: Envelope) -> list[str]:
    """List the files whose bytes the statement doesn't vouch for.

    Args:
        names: path in the statement by path below `folder`.
    """
    return [name for name, stated in names.items() if envelope.files.get(stated) != sha256_file(folder / name)]


def signer() -> Signer | None:
    """Load the key that SEGOPS_SIGNING_KEY names; None if that isn't set. Raises UserError if it can't be used."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    name = os.environ.get(KEY_VARIABLE, "").strip()
    if not name:
        return None
    password = os.environ.get(PASSWORD_VARIABLE) or None
    try:
        key = load_pem_private_key(Path(name).read_bytes(), password.encode() if password else None)
    except OSError as error:
        raise UserError(f"{KEY_VARIABLE} {name}: {error.strerror}") from None
    except (ValueError, TypeError):  # cryptography's own words quote no key, and say little
        raise UserError(
            f"{KEY_VARIABLE} {name} can't be read as a private key in PEM: it is another kind of file, or "
            f"{PASSWORD_VARIABLE} is missing, wrong or not needed"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{KEY_VARIABLE} {name} is no Ed25519 key; `segops keygen FILE` makes one")
    return Signer(key)


def keys(public: Sequence[str]) -> Keys | None:
    """Decode the public keys that a param lists; return None if it lists none.

    Args:
        public: each SubjectPublicKeyInfo in base64, which params have checked to be of Ed25519.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    raw = [base64.b64decode(key)[-32:] for key in public]
    return Keys(tuple(Ed25519PublicKey.from_public_bytes(key) for key in raw)) if raw else None


def keygen(file: Path) -> str:
    """Write a new private key that only its owner may read, encrypted if SEGOPS_SIGNING_PASSWORD is set.

    Returns:
        The public key as params hold it.

    Raises:
        UserError: the file is there already.
    """
    from cryptography.hazmat.primitives import serialization as kinds
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, password = Ed25519PrivateKey.generate(), os.environ.get(PASSWORD_VARIABLE)
    lock = kinds.BestAvailableEncryption(password.encode()) if password else kinds.NoEncryption()
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(f"{file} is there already; a key is never overwritten, name another file") from None
    with os.fdopen(opened, "wb") as written:
        written.write(key.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, lock))
    return shown(key.public_key())


def shown(key: Ed25519PublicKey) -> str:
    """Encode a public key as params hold it: SubjectPublicKeyInfo in base64."""
    from cryptography.hazmat.primitives import serialization as kinds

    der = key.public_bytes(kinds.Encoding.DER, kinds.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def _encoded(kind: str, payload: bytes) -> bytes:
    """Apply DSSE's pre-authentication encoding, so that a signature of one kind of payload is none of another."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
