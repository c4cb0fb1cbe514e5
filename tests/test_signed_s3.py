"""S3 behind a server that checks signatures and permissions: moto with its IAM switched on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from segops.data import download
from segops.data.sources import open_source
from segops.errors import UserError
from tests.remote_servers import put_objects, s3_server, use_aws

ALLOWED = ["s3:GetObject", "s3:ListBucket"]


@dataclass(frozen=True)
class User:
    """Somebody with a key."""

    key: str
    secret: str


@dataclass(frozen=True)
class SignedS3:
    """A server with a reader, who may read, and a stranger, who may do nothing."""

    endpoint: str
    reader: User
    stranger: User


@pytest.fixture(scope="module")
def server() -> Iterator[SignedS3]:
    with s3_server() as endpoint:
        put_objects(endpoint, "signed", {"raw/a.txt": b"a" * 5000, "raw/b c+ä.txt": b"b"})
        reader, stranger = make_user(endpoint, "reader", ALLOWED), make_user(endpoint, "stranger", [])
        before = requests.post(f"{endpoint}/moto-api/reset-auth", data=b"0", timeout=10).json()
        try:
            yield SignedS3(endpoint, reader, stranger)
        finally:
            previous = before["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]
            requests.post(f"{endpoint}/moto-api/reset-auth", data=previous.encode(), timeout=10)


def make_user(endpoint: str, name: str, actions: list[str]) -> User:
    iam: Any = boto3.client(
        "iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    iam.create_user(UserName=name)
    if actions:
        statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="allowed", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return User(key["AccessKeyId"], key["SecretAccessKey"])


def sign_in(monkeypatch: pytest.MonkeyPatch, server: SignedS3, user: User) -> None:
    use_aws(monkeypatch, server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", user.key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", user.secret)
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(download, "PART_BYTES", 1000)


def read(uri: str, tmp_path: Path) -> dict[str, bytes]:
    with open_source(uri, scratch=tmp_path, connections=3) as source:
        return {name: source.read(name) for name in source.names}


def test_requests_are_signed_whatever_the_objects_name(
    server: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, server, server.reader)
    assert read("s3://signed/raw/", tmp_path) == {"a.txt": b"a" * 5000, "b c+ä.txt": b"b"}


@pytest.mark.parametrize("uri", ["s3://signed/raw/", "s3://signed/raw/a.zip"])
def test_a_wrong_secret_is_said_in_one_line_that_doesnt_show_it(
    uri: str, server: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, server, User(server.reader.key, "wrong-secret"))
    with pytest.raises(UserError, match=r"^s3://signed/raw/\S*: the secret is wrong; correct AWS_SECRET_ACCESS_KEY$"):
        read(uri, tmp_path)


def test_an_unknown_key_and_a_user_without_permission_are_told_apart(
    server: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, server, User("AKIAUNKNOWN", "secret"))
    with pytest.raises(UserError, match=r"the access key is unknown; correct AWS_ACCESS_KEY_ID"):
        read("s3://signed/raw/", tmp_path)
    sign_in(monkeypatch, server, server.stranger)
    with pytest.raises(UserError, match=r"access denied; ask for s3:GetObject and s3:ListBucket on it"):
        read("s3://signed/raw/", tmp_path)
