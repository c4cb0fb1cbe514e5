"""Keeps a DVC repository that is only read from choosing commands, credentials, servers or folders for us.

A repository's own settings could name a file of AWS profiles whose `credential_process` is a command, a server that
our credentials sign requests for, or a cache of pickles. So every storage that DVC opens has the settings of an
allow-list, or those that the user's own DVC settings or environment say as well. git runs no hook, monitor or
transport of a repository's choice, and DVC's cache of indexes, which holds pickles, is a folder of the project's own
(CVE-2025-69872).
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segops.errors import UserError
from segops.files import project_root

SITE_CACHE = ".segops/dvc"  # below the project
_ALLOWED = {
    # where contents are, and how they are addressed
    *("url", "region", "version_aware", "worktree", "no_traverse", "listobjects", "port", "projectname"),
    "account_name",
    # how fast, how often, how kept
    *("jobs", "checksum_jobs", "verify", "timeout", "read_timeout", "connect_timeout", "connection_timeout"),
    *("max_sessions", "cache_regions", "type", "shared", "protected", "slow_link_warning", "allow_anonymous_login"),
    # of uploads alone
    *("acl", "sse", "sse_kms_key_id", "grant_read", "grant_read_acp", "grant_write_acp", "grant_full_control"),
    # a login of the repository's own: it tells the repository nothing of ours
    *("user", "password", "token", "access_key_id", "secret_access_key", "session_token", "account_key", "sas_token"),
    *("sse_customer_algorithm", "sse_customer_key"),
    "tmp_dir",  # DVC's own, see SITE_CACHE
}
_ENVIRONMENT = {
    "endpointurl": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "profile": ("AWS_PROFILE",),
    "configpath": ("AWS_CONFIG_FILE",),
    "credentialpath": ("AWS_SHARED_CREDENTIALS_FILE", "GOOGLE_APPLICATION_CREDENTIALS"),
    "ssl_verify": ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
}
_HARMLESS = {False: ("ask_password", "ask_passphrase", "gss_auth", "kerberos"), True: ("use_ssl", "ssl_verify")}
_GIT = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "protocol.ext.allow": "never",
    "submodule.recurse": "false",
}
_HELPER = re.compile(r"^\w+::|^-|^[\w+]+://-|@-")  # `ext::command`, or an option in place of a repository or a host
_one_at_a_time = threading.RLock()


def check_repository(repo: str, where: str) -> None:
    """Refuse a repository's name that git would take for a command or an option. Raises UserError."""
    if _HELPER.search(repo):
        raise UserError(f"{where}: names a command or an option to git instead of a repository; name a folder or a URL")


@contextmanager
def distrusted() -> Iterator[None]:
    """Let DVC open storages by trusted settings alone while the block runs. Raises UserError for another setting."""
    from dvc import fs

    with _one_at_a_time, _environment(_private_environment()):
        resolve, trusted = fs.get_fs_config, _users_own()

        def checked(config: Any, **settings: Any) -> Any:
            resolved = resolve(config, **settings)
            _check_settings(resolved, trusted)
            return resolved

        fs.get_fs_config = checked  # every storage that DVC opens is made by what this returns
        try:
            yield
        finally:
            fs.get_fs_config = resolve


def _check_settings(settings: dict[str, Any], trusted: set[tuple[str, str]]) -> None:
    """Refuse a storage's setting that is neither on the allow-list nor said by the user as well."""
    for key, value in settings.items():
        told = {os.environ.get(name) for name in _ENVIRONMENT.get(key, ())}
        harmless = key in _HARMLESS.get(value, ()) if isinstance(value, bool) else False
        if key not in _ALLOWED and not harmless and (key, str(value)) not in trusted and str(value) not in told:
            variable = f", or set {_ENVIRONMENT[key][-1]} to it" if key in _ENVIRONMENT else ""
            raise UserError(
                f"its DVC settings choose '{key}' of a remote, which could run commands here or send our credentials "
                f"away; if you trust it, say the same in your own settings with `dvc remote add --global` and `dvc "
                f"remote modify --global`{variable}"
            )


def _users_own() -> set[tuple[str, str]]:
    """Return the settings of all remotes in the user's and the machine's own DVC settings."""
    from dvc.config import Config

    own: set[tuple[str, str]] = set()
    for level in Config.SYSTEM_LEVELS:
        path = Path(Config.get_dir(level)) / Config.CONFIG
        if path.is_file():
            remotes = Config.load_file(str(path)).get("remote", {}).values()
            own |= {(key, str(value)) for remote in remotes for key, value in remote.items()}
    return own


def _private_environment() -> dict[str, str]:
    """Return the variables that DVC and git run with."""
    folder = project_root() / SITE_CACHE
    (folder / "repo").mkdir(parents=True, exist_ok=True, mode=0o700)  # DVC would let everybody write to it
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    keys = {f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(_GIT, start=first)}
    values = {f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(_GIT.values(), start=first)}
    return {
        "DVC_SITE_CACHE_DIR": str(folder),
        "DVC_NO_ANALYTICS": "true",
        "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
        "GIT_CONFIG_COUNT": str(first + len(_GIT)),
        **keys,
        **values,
    }


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables while the block runs, and put back all that changed meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
