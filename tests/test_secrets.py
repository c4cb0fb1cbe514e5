"""What counts as a secret, and that none is shown, stored or sent in the open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pipelines.api import Api, Login
from segops.data.sources.revealed import revealed
from segops.errors import UserError
from segops.params.explain import models_in
from segops.params.project import Params, load_params
from segops.params.section import Section
from segops.secrets import channel_fault, holds_secret, without_secrets
from segops.tracking import channel

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=8, max_size=24)
KEYS = ["X-Amz-Signature", "X-Amz-Credential", "X-Amz-Security-Token", "Signature", "sig", "token", "access_token"]
KEYS += ["AWSAccessKeyId", "api_key", "apikey", "key", "password", "X-Goog-Signature", "private_link", "auth", "code"]


@st.composite
def secret_urls(draw: st.DrawFn) -> tuple[str, str]:
    """A URL with a secret in it, and the secret."""
    secret = draw(WORD)
    scheme = draw(st.sampled_from(["https", "http", "s3", "postgresql", "git+https", "dvc://https", "az", "ftp"]))
    path = draw(st.sampled_from(["", "/", "/a/b.zip", "/a b"])).replace(" ", "%20")
    kind = draw(st.sampled_from(["login", "user", "query", "second", "fragment"]))
    key = draw(st.sampled_from(KEYS))
    if kind == "login":
        return f"{scheme}://user:{secret}@host.org{path}", secret
    if kind == "user":
        return f"https://{secret}@host.org{path}", secret
    lead = {"query": "?", "second": "?id=1&", "fragment": "#"}[kind]
    return f"{scheme}://host.org{path}{lead}{key}={secret}", secret


@given(secret_urls(), st.sampled_from(["{}", "get '{}' again", "({})", "a {}, b", '"{}"']))
def test_a_secret_is_known_and_never_shown(url_and_secret: tuple[str, str], around: str) -> None:
    url, secret = url_and_secret
    assert holds_secret(url)
    shown = without_secrets(around.format(url))
    assert secret not in shown
    assert "host.org" in shown
    assert without_secrets(shown) == shown


PLAIN = [
    "https://zenodo.org/records/1/files/raw.zip?download=1",
    "https://host.org/a.zip?versionId=3sL4kqtJlcpXroDTDmJrmSpXd3dIbrHY",
    "s3://bucket/2024/raw.zip",
    "dvc://git@host:org/repo.git@v1#raw/",
    "ssh://git@host/org/repo.git",
    "postgresql://user@host/database",
    "http://127.0.0.1:5000/#/experiments?workflowType=machine_learning",
    "http://127.0.0.1:5000/#/experiments?viewStateShareKey=0123456789abcdef0123456789abcdef",
    "synthetic://nuclei?n=96&size=128&seed=0",
    "https://user:${PASSWORD}@host.org/a.zip?token=${TOKEN}",
    "masks/{stem}.png",
    "(?P<key>.*)=secret",
]


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_stays(text: str) -> None:
    assert not holds_secret(text)
    if "$" not in text:
        assert without_secrets(text) == text


def sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """A model and all in its fields."""
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for inner in models_in(field.annotation):
            yield from sections(inner, seen)


def test_every_section_of_params_refuses_secrets() -> None:
    """So that a new param can't be one that keeps them."""
    found = list(sections(Params, set()))
    assert len(found) > 20
    assert [model.__name__ for model in found if not issubclass(model, Section)] == []
    for model in found:
        name = next(name for name in model.model_fields if name not in model._own_refusal)  # type: ignore[attr-defined]
        with pytest.raises(ValidationError, match="holds a password or a token"):
            model.model_validate({name: "https://u:hidden-secret@host/x"})


@pytest.mark.parametrize(
    "lines",
    [
        "ingest: {source: 'https://u:hidden-secret@host/a.zip'}",
        "ingest: {source: 'https://host/a.zip?X-Amz-Signature=hidden-secret'}",
        "ingest: {source: 'dvc://https://hidden-secret@host/a#raw'}",
        "ingest: {base: 's3://key:hidden-secret@bucket/a'}",
        "batch: {source: 'https://host/a?sv=1&sig=hidden-secret'}",
        "tune: {storage: 'postgresql://u:hidden-secret@host/d'}",
        "candidates: {a: {model: {architecture: vgg16_unet, pretrained: {weights: "
        "{source: 'https://host/w.safetensors?token=hidden-secret', sha256: ''}}}}}",
        "kubeflow: {environment: {A: 'https://u:hidden-secret@host'}}",
    ],
)
def test_a_secret_in_params_is_refused_without_being_told(lines: str, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((root / "params.yaml").read_text()) | yaml.safe_load(lines)))
    with pytest.raises(UserError) as error:
        load_params(path)
    assert "hidden-secret" not in str(error.value)
    assert "environment variable" in str(error.value) or "SEGOPS_TUNE_STORAGE" in str(error.value)


def test_a_secret_comes_from_the_environment_and_out_of_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hidden-secret")
    stored = "https://user:${TOKEN}@host.org/a.zip"
    assert not holds_secret(stored)
    with pytest.raises(UserError) as error, revealed(stored) as whole:
        assert whole == "https://user:hidden-secret@host.org/a.zip"
        raise UserError(f"{whole}: refused hidden-secret")
    assert str(error.value) == "https://host.org/a.zip: refused ***"
    monkeypatch.delenv("TOKEN")
    with pytest.raises(UserError, match="variable TOKEN isn't set"), revealed(stored):
        pass


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("http://mlflow.example.org", True),
        ("http://10.0.0.7:5000", True),
        ("http://[2001:db8::1]:80/", True),
        ("https://mlflow.example.org", False),
        ("http://127.0.0.1:5000", False),
        ("http://[::1]:5000", False),
        ("http://localhost:5000", False),
        ("http://mlflow:5000", False),
        ("http://ml-pipeline.kubeflow.svc.cluster.local:8888", False),
        ("http://ml-pipeline.kubeflow.svc:8888", False),
    ],
)
def test_a_secret_isnt_sent_in_the_open_without_a_word(
    url: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (channel_fault(url, "a token") is not None) == refused
    assert channel_fault(url, None) is None
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hidden-secret")
    if refused:
        with pytest.raises(UserError, match=r"MLFLOW_TRACKING_TOKEN would be sent unencrypted; use https://"):
            channel.check(url)
        with pytest.raises(UserError, match="KFP_TOKEN would be sent unencrypted"):
            Api(Login(url, "lab", token="hidden-secret"))
        with (
            pytest.raises(UserError, match="its login or token would be sent unencrypted"),
            revealed(f"{url.rstrip('/')}/a.zip?token=hidden-secret"),
        ):
            pass
        monkeypatch.setenv("SEGOPS_ALLOW_HTTP", "1")
    channel.check(url)
    with revealed(f"{url.rstrip('/')}/a.zip?token=hidden-secret"):
        pass


def test_the_default_params_hold_none(root: Path) -> None:
    text = json.dumps(load_params(root / "params.yaml").model_dump(mode="json"))
    assert without_secrets(text) == text
