"""Signatures: what was signed is believed, by these keys, as this kind of thing, and nothing else is."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from segops.errors import UserError
from segops.params.tracking import TrackingParams
from segops.tracking import signing
from segops.tracking.signing import DECISION, STATEMENT, Envelope, Signer


def _signer(file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Signer, str]:
    public = signing.keygen(file)
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(file))
    found = signing.signer()
    assert found is not None
    return found, public


def test_a_signature_is_of_its_payload_its_kind_and_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, public = _signer(tmp_path / "ann.pem", monkeypatch)
    _, other = _signer(tmp_path / "bob.pem", monkeypatch)
    both = signing.keys(TrackingParams(decision_keys=(other, public)).decision_keys)
    bob = signing.keys((other,))
    assert both is not None
    assert bob is not None
    made = ann.sign(DECISION, b"promote 3")
    assert both.signed(DECISION, b"promote 3", made)
    assert not both.signed(DECISION, b"promote 4", made)
    assert not both.signed(STATEMENT, b"promote 3", made)
    assert not bob.signed(DECISION, b"promote 3", made)
    for broken in (None, "", "AAAA", "not base64!", made[:-4], "ü"):
        assert not both.signed(DECISION, b"promote 3", broken)
    assert signing.keys(()) is None


def test_the_signature_is_what_the_formats_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 8032 over DSSE's pre-authentication encoding, checked with OpenSSL's own program."""
    ann, public = _signer(tmp_path / "ann.pem", monkeypatch)
    envelope = json.loads(signing.seal(ann, {"candidate/model.json": "ab" * 32}, {"model_name": "nuclei"}))
    payload = base64.b64decode(envelope["payload"])
    encoded = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(payload), payload)
    (tmp_path / "encoded").write_bytes(encoded)
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "public.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{public}\n-----END PUBLIC KEY-----\n")
    command = "openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in encoded -sigfile signature"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(payload)["subject"] == [{"name": "candidate/model.json", "digest": {"sha256": "ab" * 32}}]


def test_a_statement_vouches_for_the_bytes_of_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, _ = _signer(tmp_path / "ann.pem", monkeypatch)
    bob, _ = _signer(tmp_path / "bob.pem", monkeypatch)
    (tmp_path / "model.json").write_text("{}")
    sha256 = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # of `{}`
    envelope = Envelope(signing.seal(ann, {"candidate/model.json": sha256}, {}))
    assert envelope.signed_by(ann.keys)
    assert not envelope.signed_by(bob.keys)
    names = {"model.json": "candidate/model.json"}
    assert signing.wrong_files(tmp_path, names, envelope) == []
    assert signing.wrong_files(tmp_path, {"model.json": "candidate/metrics.json"}, envelope) == ["model.json"]
    (tmp_path / "model.json").write_text("[]")
    assert signing.wrong_files(tmp_path, names, envelope) == ["model.json"]
    changed = json.loads(envelope.text)
    changed["payload"] = base64.b64encode(base64.b64decode(changed["payload"]).replace(b"44136", b"44137")).decode()
    assert not Envelope(json.dumps(changed)).signed_by(ann.keys)
    for text in ("", "[]", "{}", '{"payload": "AA=="}', '{"payload": "e30=", "signatures": [{"sig": ""}]}'):
        assert not Envelope(text).signed_by(ann.keys)
        assert Envelope(text).files == {}


def test_the_private_key_is_its_owners_and_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGOPS_SIGNING_PASSWORD", "open sesame")
    file = tmp_path / "keys" / "ann.pem"
    _signer(file, monkeypatch)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in file.read_bytes()
    with pytest.raises(UserError, match="is there already"):
        signing.keygen(file)
    for password in ("", "wrong"):
        monkeypatch.setenv("SEGOPS_SIGNING_PASSWORD", password)
        with pytest.raises(UserError, match="SEGOPS_SIGNING_PASSWORD is missing, wrong or not needed") as caught:
            signing.signer()
        assert "sesame" not in str(caught.value)


def test_a_key_that_cannot_be_used_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert signing.signer() is None
    for name, text, reason in (("none.pem", None, "No such file"), ("text.pem", "hello", "another kind of file")):
        if text is not None:
            (tmp_path / name).write_text(text)
        monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / name))
        with pytest.raises(UserError, match=reason):
            signing.signer()
    subprocess.run(["openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", tmp_path / "ec.pem"], check=True)
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "ec.pem"))
    with pytest.raises(UserError, match="no Ed25519 key; `segops keygen FILE` makes one"):
        signing.signer()


def test_a_key_made_by_openssl_signs_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "key.pem"], check=True)
    monkeypatch.setenv("SEGOPS_SIGNING_KEY", str(tmp_path / "key.pem"))
    made = signing.signer()
    assert made is not None
    listed = signing.keys((signing.shown(made.key.public_key()),))
    assert listed is not None
    assert listed.signed(DECISION, b"x", made.sign(DECISION, b"x"))


def test_keygen_prints_the_public_key_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from segops.cli.main import main; main()", "keygen", str(tmp_path / "key.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert TrackingParams(version_keys=(done.stdout.strip(),)).version_keys == (done.stdout.strip(),)
    assert "PRIVATE" not in done.stdout + done.stderr
