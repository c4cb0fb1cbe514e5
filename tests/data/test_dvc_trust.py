"""DVC repositories that try to choose a command, a server or a credential of ours: refused in a line, nothing run."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from segops.data.sources import download
from segops.data.sources.dvc_trust import SITE_CACHE
from segops.data.sources.source import fetch
from segops.errors import OneLineError
from tests.support.dvc_repos import DvcRepo
from tests.support.remote_servers import use_aws


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> DvcRepo:
    """v1 with raw/a.png, which is only in the remote."""
    folder = tmp_path_factory.mktemp("trust")
    repo = DvcRepo.make(folder / "repo", folder / "store")
    (repo.folder / "raw").mkdir()
    (repo.folder / "raw/a.png").write_bytes(b"a")
    repo.commit("v1", "raw")
    shutil.rmtree(repo.folder / ".dvc/cache")
    return repo


@pytest.fixture
def repo(origin: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DvcRepo:
    """A copy to make hostile, beside an empty project."""
    monkeypatch.setattr(download, "_FIRST_PAUSE_S", 0)
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "own"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    shutil.copytree(origin.folder, tmp_path / "repo", symlinks=True)
    return DvcRepo(tmp_path / "repo", origin.store)


def settings(repo: DvcRepo, remote: str, file: str = "config") -> None:
    """Write the repository's DVC settings, and commit them."""
    (repo.folder / ".dvc" / file).write_text(f"[core]\nremote = store\n['remote \"store\"']\n{remote}\n")
    repo.run("git", "commit", "-qam", "settings", "--allow-empty")


def complaint(uri: str) -> str:
    with pytest.raises(OneLineError) as error:
        fetch(uri)
    assert "\n" not in str(error.value)
    return str(error.value)


def command(folder: Path) -> tuple[Path, Path]:
    """A script, and the file that it leaves where it runs."""
    ran, script = folder / "it-ran", folder / "command.sh"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    return script, ran


HOSTILE = {
    "configpath": ("s3://bucket/x", "../aws.cfg"),
    "profile": ("s3://bucket/x", "evil"),
    "credentialpath": ("s3://bucket/x", "../aws.cfg"),
    "endpointurl": ("s3://bucket/x", "http://127.0.0.1:9"),
    "ssl_verify": ("s3://bucket/x", "false"),
    "use_ssl": ("s3://bucket/x", "false"),
    "keyfile": ("ssh://127.0.0.1/x", "~/.ssh/id_rsa"),
    "ask_password": ("ssh://127.0.0.1/x", "true"),
    "gss_auth": ("ssh://127.0.0.1/x", "true"),
    "allow_agent": ("ssh://127.0.0.1/x", "true"),
    "bearer_token_command": ("webdav://127.0.0.1/x", "command.sh"),
    "custom_auth_header": ("http://127.0.0.1/x", "X-Header"),
    "auth": ("http://127.0.0.1/x", "basic"),
    "cert_path": ("webdav://127.0.0.1/x", "cert.pem"),
    "connection_string": ("azure://box/x", "BlobEndpoint=http://127.0.0.1:9"),
    "gdrive_service_account_json_file_path": ("gdrive://folder/x", "key.json"),
    "proxy_to": ("webhdfs://127.0.0.1/x", "somebody"),
    "oss_endpoint": ("oss://bucket/x", "127.0.0.1:9"),
}


@pytest.mark.parametrize("key", HOSTILE)
def test_a_setting_that_could_harm_is_refused_by_its_name(key: str, repo: DvcRepo) -> None:
    url, value = HOSTILE[key]
    settings(repo, f"url = {url}\n{key} = {value}")
    text = complaint("dvc://../repo#raw")
    assert text.startswith(f"dvc://../repo#raw: its DVC settings choose '{key}' of a remote")
    assert "dvc remote modify --global" in text


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("dvc://../repo#raw", "config"),
        ("dvc://../repo#raw", "config.local"),
        ("dvc://../repo@main#raw", "config.local"),
        ("dvc://file://{repo}@main#raw", "config"),  # a clone has no settings of its origin's machine
    ],
)
def test_no_command_of_a_profile_runs(uri: str, file: str, repo: DvcRepo, tmp_path: Path) -> None:
    script, ran = command(tmp_path)
    profiles = "".join(f"[{name}]\ncredential_process = {script}\n" for name in ("default", "evil"))
    (tmp_path / "aws.cfg").write_text(profiles)
    settings(repo, f"url = s3://bucket/x\nconfigpath = {tmp_path}/aws.cfg\nprofile = evil", file)
    before = dict(os.environ)
    text = complaint(uri.format(repo=repo.folder))
    assert "choose 'profile'" in text or "choose 'configpath'" in text
    assert not ran.exists()
    assert dict(os.environ) == before


def test_a_setting_hidden_in_a_tracked_file_is_refused(repo: DvcRepo) -> None:
    """`dvc import-url` writes settings of a storage beside the path."""
    (repo.folder / "other.dvc").write_text(
        "deps:\n- path: s3://bucket/x.png\n  fs_config:\n    configpath: aws.cfg\nfrozen: true\n"
        "outs:\n- md5: 0cc175b9c0f1b6a831c399e269772661\n  size: 1\n  hash: md5\n  path: other\n"
    )
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "import")
    assert "choose 'configpath'" in complaint("dvc://../repo#other")


def test_what_an_import_refers_to_is_distrusted_too(repo: DvcRepo, tmp_path: Path) -> None:
    """The imported repository's own settings are a stranger's as well."""
    inner = tmp_path / "inner"
    shutil.copytree(repo.folder, inner, symlinks=True)
    settings(DvcRepo(inner, repo.store), "url = s3://bucket/x\nprofile = evil")
    head = DvcRepo(inner, repo.store).run("git", "rev-parse", "HEAD")
    (repo.folder / "got.dvc").write_text(
        f"deps:\n- path: raw\n  repo:\n    url: {inner}\n    rev_lock: {head}\nfrozen: true\n"
        "outs:\n- md5: 11111111111111111111111111111111.dir\n  nfiles: 1\n  hash: md5\n  path: got\n"
    )
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "import")
    text = complaint("dvc://../repo#got")
    assert "choose 'profile'" in text or "neither DVC's cache nor its remote" in text


def test_the_same_in_the_users_own_settings_or_environment_is_trusted(
    repo: DvcRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(repo, "url = s3://bucket/x\nendpointurl = http://127.0.0.1:9")
    use_aws(monkeypatch, "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    assert "choose" not in complaint("dvc://../repo#raw")
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert "choose 'endpointurl'" in complaint("dvc://../repo#raw")
    (tmp_path / "own").mkdir()
    own = "['remote \"store\"']\nurl = s3://bucket/x\nendpointurl = http://127.0.0.1:9\n"
    (tmp_path / "own/config").write_text(own)
    assert "choose" not in complaint("dvc://../repo#raw")


def test_harmless_settings_are_read(repo: DvcRepo) -> None:
    settings(repo, f"url = {repo.store}\njobs = 2\nverify = true\nchecksum_jobs = 1")
    assert (fetch("dvc://../repo#raw").path / "a.png").read_bytes() == b"a"


def test_git_runs_nothing_of_the_repositorys(repo: DvcRepo, tmp_path: Path) -> None:
    script, ran = command(tmp_path)
    for hook in ("post-checkout", "post-merge", "reference-transaction"):
        shutil.copy(script, repo.folder / ".git/hooks" / hook)
    (repo.folder / ".gitattributes").write_text("* filter=evil\n")
    settings(repo, f"url = {repo.store}")
    repo.run("git", "add", "-A")
    repo.run("git", "commit", "-qm", "attributes")
    for key in ("core.fsmonitor", "filter.evil.smudge", "filter.evil.process", "core.sshCommand", "core.pager"):
        repo.run("git", "config", key, str(script))
    repo.run("git", "config", "core.hooksPath", str(tmp_path))
    ran.unlink(missing_ok=True)  # git itself ran the hooks above
    for uri in ("dvc://../repo#raw", "dvc://../repo@v1#raw", f"dvc://file://{repo.folder}@main#raw"):
        assert (fetch(uri).path / "a.png").read_bytes() == b"a"
        assert not ran.exists()


@pytest.mark.parametrize(
    "where", ["ext::sh -c touch% ran", "--upload-pack=touch ran", "fd::17", "ssh://-oProxyCommand=touch/x", "git@-x:y"]
)
def test_a_command_in_place_of_a_repository_is_refused(where: str, repo: DvcRepo, tmp_path: Path) -> None:
    assert "names a command or an option to git" in complaint(f"dvc://{where}#raw")
    assert not list(tmp_path.rglob("ran"))


def test_a_folders_list_cant_write_outside_it(repo: DvcRepo, tmp_path: Path) -> None:
    """The list of a tracked folder is a file of the remote, which names paths."""
    (listing,) = repo.store.rglob("*.dir")
    text = listing.read_text()
    copy = tmp_path / "store"
    shutil.copytree(repo.store, copy)
    settings(repo, f"url = {copy}")
    evil = text.replace('"a.png"', '"../../../../out.png"')
    md5 = hashlib.md5(evil.encode()).hexdigest()
    target = copy / "files/md5" / md5[:2] / f"{md5[2:]}.dir"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(evil)
    dvc_file = repo.folder / "raw.dvc"
    dvc_file.write_text(dvc_file.read_text().replace(listing.parent.name + listing.name.removesuffix(".dir"), md5))
    repo.run("git", "commit", "-qam", "hostile list")
    assert "its lists of files" in complaint("dvc://../repo#raw")
    assert not list(tmp_path.rglob("out.png"))


def test_dvcs_cache_of_indexes_is_the_projects_own_and_nobody_elses(repo: DvcRepo, tmp_path: Path) -> None:
    settings(repo, f"url = {repo.store}")
    config = repo.folder / ".dvc/config"
    config.write_text(config.read_text().replace("[core]\n", f"[core]\nsite_cache_dir = {tmp_path}/evil\n"))
    repo.run("git", "commit", "-qam", "settings")
    fetch("dvc://../repo#raw")
    folder = tmp_path / SITE_CACHE / "repo"
    assert list(folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0
    assert not (tmp_path / "evil").exists()


def test_the_projects_own_dvc_keeps_its_indexes_in_a_folder_that_every_checkout_has(root: Path) -> None:
    """DVC would make the folder writable by everybody; one that is there keeps its mode."""
    assert f"site_cache_dir = {SITE_CACHE}\n" in (root / ".dvc/config").read_text()
    tracked = f"{SITE_CACHE}/repo/.gitignore"
    assert DvcRepo(root, root).run("git", "ls-files", tracked) == tracked
    assert stat.S_IMODE((root / SITE_CACHE / "repo").stat().st_mode) & 0o002 == 0
