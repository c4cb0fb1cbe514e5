"""S3 behind servers that check signatures and permissions: moto with its IAM switched on, and OpenStack Swift.

moto computes the signature that it expects with botocore, which made ours; Swift does so with code of its own.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests

from segops.data.sources import download
from segops.data.sources.source import open_source
from segops.errors import TryAgainError, UserError
from tests.support.dvc_repos import DvcRepo
from tests.support.remote_servers import folder_files, put_objects, s3_server, swift_server, use_aws

CONTENT = {"a.txt": b"a" * 5000, "b c+ä.txt": b"b"}
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
def repo(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """v1 with raw/a.png and one.zip, and s3://stored/dvc as its remote; nothing is pushed."""
    repo = DvcRepo.make(tmp_path_factory.mktemp("dvc") / "repo", Path("unused"))
    repo.run("dvc", "remote", "modify", "-q", "store", "url", "s3://stored/dvc")
    (repo.folder / "raw").mkdir()
    (repo.folder / "raw/a.png").write_bytes(b"a")
    with zipfile.ZipFile(repo.folder / "one.zip", "w") as archive:
        archive.writestr("a.png", b"a")
    repo.commit("v1", "raw", "one.zip", push=False)
    return repo


@pytest.fixture(scope="module")
def stored(repo: DvcRepo) -> dict[str, bytes]:
    """What `dvc push` would store: the cache's files under the same names. The cache is emptied."""
    cache = repo.folder / ".dvc/cache"
    objects = folder_files(cache, "dvc/")
    shutil.rmtree(cache)
    return objects


@pytest.fixture(scope="module")
def moto(stored: dict[str, bytes]) -> Iterator[SignedS3]:
    with s3_server() as endpoint:
        put_objects(endpoint, "signed", {f"raw/{name}": content for name, content in CONTENT.items()})
        put_objects(endpoint, "stored", stored)
        reader, stranger = make_user(endpoint, "reader", ALLOWED), make_user(endpoint, "stranger", [])
        before = requests.post(f"{endpoint}/moto-api/reset-auth", data=b"0", timeout=10).json()
        try:
            yield SignedS3(endpoint, reader, stranger)
        finally:
            previous = before["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]
            requests.post(f"{endpoint}/moto-api/reset-auth", data=previous.encode(), timeout=10)


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory, stored: dict[str, bytes]) -> Iterator[SignedS3]:
    owner = User("cells:owner", "owners-secret")
    with swift_server(tmp_path_factory.mktemp("swift")) as endpoint:
        objects = {f"raw/{name}": content for name, content in CONTENT.items()}
        put_objects(endpoint, "signed", objects, key=owner.key, secret=owner.secret)
        put_objects(endpoint, "stored", stored, key=owner.key, secret=owner.secret)
        yield SignedS3(endpoint, owner, User("cells:stranger", "strangers-secret"))


@pytest.fixture(params=["moto", "swift"])
def server(request: pytest.FixtureRequest) -> SignedS3:
    found: SignedS3 = request.getfixturevalue(request.param)
    return found


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
    assert read("s3://signed/raw/", tmp_path) == CONTENT


@pytest.mark.parametrize("uri", ["s3://signed/raw/", "s3://signed/raw/a.zip"])
def test_a_wrong_secret_is_said_in_one_line_that_doesnt_show_it(
    uri: str, server: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, server, User(server.reader.key, "wrong-secret"))
    line = (
        r"^s3://signed/raw/\S*: the secret isn't the access key's; "
        r"correct AWS_SECRET_ACCESS_KEY or AWS_ACCESS_KEY_ID$"
    )
    with pytest.raises(UserError, match=line):
        read(uri, tmp_path)


def test_an_unknown_key_is_named(server: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Swift answers as to a wrong secret."""
    sign_in(monkeypatch, server, User("AKIAUNKNOWN", "secret"))
    with pytest.raises(UserError, match=r"access key.*; correct .*AWS_ACCESS_KEY_ID$"):
        read("s3://signed/raw/", tmp_path)


@pytest.mark.parametrize("uri", ["s3://signed/raw/", "s3://signed/raw/a.zip"])
def test_a_user_without_permission_is_told_which_to_ask_for(
    uri: str, server: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch, server, server.stranger)
    with pytest.raises(UserError, match=r"access denied; ask for s3:GetObject and s3:ListBucket on it$"):
        read(uri, tmp_path)


def test_a_bucket_in_another_region_is_read_there(
    swift: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature holds its region; the server refuses another one and names its own."""
    sign_in(monkeypatch, swift, swift.reader)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert read("s3://signed/raw/", tmp_path) == CONTENT


def test_a_wrong_clock_is_said(swift: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tomorrow = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(days=1)
    sign_in(monkeypatch, swift, swift.reader)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: tomorrow)
    with pytest.raises(UserError, match=r"this machine's clock is wrong; set it$"):
        read("s3://signed/raw/", tmp_path)


def test_an_object_uploaded_in_parts_arrives_whole(
    swift: SignedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ETag is no MD5 of the content."""
    sign_in(monkeypatch, swift, swift.reader)
    client: Any = boto3.client("s3")
    where = {"Bucket": "signed", "Key": "parts/whole.txt"}
    upload = {**where, "UploadId": client.create_multipart_upload(**where)["UploadId"]}
    parts = [
        {"PartNumber": n, "ETag": client.upload_part(**upload, PartNumber=n, Body=b"%d" % n * 3000)["ETag"]}
        for n in (1, 2)
    ]
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert client.head_object(**where)["ETag"].endswith('-2"')
    assert read("s3://signed/parts/", tmp_path) == {"whole.txt": b"1" * 3000 + b"2" * 3000}


@pytest.mark.parametrize("path", ["raw", "one.zip"])
def test_a_dvc_remote_gives_its_content_to_the_right_secret_and_refuses_another_in_one_line(
    path: str, server: SignedS3, repo: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"dvc://{repo.folder}@v1#{path}"
    sign_in(monkeypatch, server, User(server.reader.key, "wrong-secret"))
    with pytest.raises(UserError, match=r"its DVC remote refuses access \(.*\); correct the credentials$") as error:
        read(uri, tmp_path)
    assert "wrong-secret" not in str(error.value)
    assert "\n" not in str(error.value)
    sign_in(monkeypatch, server, server.reader)
    assert read(uri, tmp_path) == {"a.png": b"a"}


@pytest.mark.parametrize("path", ["raw", "one.zip"])
def test_a_dvc_remote_that_is_away_is_given_up_in_one_line(
    path: str, repo: DvcRepo, stored: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.setattr(download, "_TRIES", 2)
    with pytest.raises(
        TryAgainError, match=r"2 times in a row; see that the server answers, then run the command again$"
    ):
        read(f"dvc://{repo.folder}@v1#{path}", tmp_path)


@pytest.mark.parametrize("path", ["raw", "one.zip"])
def test_a_dvc_remote_without_credentials_isnt_waited_for(
    path: str, repo: DvcRepo, stored: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_aws(monkeypatch, "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(UserError, match=r"refuses access \(Unable to locate credentials\); correct the credentials$"):
        read(f"dvc://{repo.folder}@v1#{path}", tmp_path)
