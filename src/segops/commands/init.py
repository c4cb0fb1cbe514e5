"""Looks at a source and writes the params.yaml of a first run, each line with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

import yaml
from pydantic import ValidationError

from segops.data.layouts.layout import Example, find_examples
from segops.data.sources.source import ArchiveSource, Source, open_source
from segops.errors import UserError
from segops.files import write_text
from segops.params.explain import explain
from segops.params.ingest import IngestParams
from segops.params.project import Params
from segops.planning.classes import Classes, described_classes, read_classes
from segops.planning.decisions import Budget, Facts, Plan, make_plan
from segops.planning.groups import propose_groups
from segops.planning.pairing import Pairing, find_pairing
from segops.planning.pixels import Look, described, look
from segops.planning.rules import RULES
from segops.planning.slice_rules import VOLUME_RULES
from segops.planning.text import as_yaml
from segops.planning.wizard import Ask, answer, settle_classes, settle_grouping, settle_pairing

_ARCHIVE = re.compile(r"\.(zip|tar|tar\.gz|tgz|csv|tsv)$", re.IGNORECASE)
_TABLE = (".csv", ".tsv")


@dataclass(frozen=True)
class InitRequest:
    """What `segops init` is asked for.

    Attributes:
        source: as `ingest.source`, or a table beside its images.
        out: the file to write.
        force: whether it may replace a file.
        sha256: of an https:// source.
        most: examples whose pixels are looked at.
        ask: puts a question with its default to a person; None: nobody is asked.
    """

    source: str
    out: Path
    budget: Budget
    force: bool = False
    sha256: str | None = None
    most: int = 200
    ask: Ask | None = None


def init(request: InitRequest) -> Plan:
    """Look at a source and write params.yaml; return the plan that is in it.

    Raises: UserError: the file is there already, the source can't be opened, nothing pairs, masks of unknown meaning.
    """
    if request.out.exists() and not request.force:
        raise UserError(f"{request.out}: is there already; pass --force to replace it, or --out for another file")
    plan = plan_of(request)
    text = as_yaml(plan, request.source, request.budget.threads)
    check_params(text)
    write_text(request.out, text)
    return plan


def plan_of(request: InitRequest) -> Plan:
    """Look at a source and return the plan of its params."""
    with _opened(request) as (source, uri, table):
        facts = _facts(source, uri, _pairing(source, uri, table, request.ask), request)
    ask = request.ask
    return make_plan(
        facts, VOLUME_RULES if facts.volumes else RULES, None if ask is None else lambda decision: answer(decision, ask)
    )


def check_params(text: str) -> None:
    """Raise UserError with a line for the first mistake of a params.yaml, which a person's answer may have made."""
    try:
        Params.model_validate(yaml.safe_load(text))
    except ValidationError as error:
        raise UserError(f"init: {explain(error, Params)}") from None


@contextmanager
def _opened(request: InitRequest) -> Iterator[tuple[Source, str, str | None]]:
    """Open the source, or the folder of a table; yield it with its URI and the table's name."""
    uri, table = request.source, None
    if uri.lower().endswith(_TABLE) and "://" not in uri:
        path = PurePosixPath(uri)
        uri, table = str(path.parent), path.name
    with TemporaryDirectory() as scratch, open_source(uri, scratch=Path(scratch), sha256=request.sha256) as source:
        yield source, uri, table


def _pairing(source: Source, uri: str, table: str | None, ask: Ask | None) -> Pairing:
    """Pair the files, with a person's help where nothing pairs or it isn't sure."""
    try:
        pairing = find_pairing(source, uri, table)
    except UserError:
        if ask is None:
            raise
        return settle_pairing(None, ask, source, uri)
    return settle_pairing(pairing, ask, source, uri)


def _facts(source: Source, uri: str, pairing: Pairing, request: InitRequest) -> Facts:
    """Look at the pixels of a paired source."""
    params = _params(uri, pairing, "image")
    examples = find_examples(source, params)
    seen = look(source, examples, params, request.most)
    classes = _classes(seen, examples, pairing, request.source)
    ids = [example.image_id for example in examples]
    grouping = propose_groups(ids, _layout_groups(source, uri, pairing), seen.fields)
    return Facts(
        uri=uri,
        name=dataset_name(request.source),
        sha256=source.sha256 if isinstance(source, ArchiveSource) and not uri.startswith("synthetic:") else None,
        pairing=pairing,
        examples=examples,
        look=seen,
        classes=settle_classes(classes, request.ask),
        grouping=settle_grouping(grouping, request.ask, ids),
        budget=request.budget,
    )


def _classes(seen: Look, examples: list[Example], pairing: Pairing, source: str) -> Classes:
    """Decide what masks mean, by what files or names say of them, or else by their values."""
    pair = examples[0].pair
    if described(pair):
        return described_classes(seen, pairing.params, objects=pair.mask_rule != "classes")
    folders = {str(PurePosixPath(example.pair.masks[0]).parent) for example in examples[:8]}
    spoken = [source, *sorted(folders), PurePosixPath(pair.masks[0]).stem]
    return read_classes(seen, pair.mask_rule, spoken, pairing.class_names)


def _params(uri: str, pairing: Pairing, group_by: str) -> IngestParams:
    """Return the params of ingest by which a pairing's files are read."""
    return IngestParams.model_validate({"source": uri, "group_by": group_by, **pairing.params})


def _layout_groups(source: Source, uri: str, pairing: Pairing) -> dict[str, str] | None:
    """Return the group of each image that the layout has by itself; None where it has none."""
    if not all(pair.group for pair in pairing.pairs):
        return None
    examples = find_examples(source, _params(uri, pairing, "layout"))
    return {example.image_id: example.group_id for example in examples}


def dataset_name(source: str) -> str:
    """Return a source's last part in small letters, without an archive's suffix, or `dataset` where that is empty."""
    path = source.partition("?")[0].partition("#")[2] or source.partition("?")[0].rstrip("/")
    last = path.rpartition("/")[2]
    if last in (".", "..", ""):
        last = Path(path or ".").resolve().name
    name = re.sub(r"[^a-z0-9]+", "-", _ARCHIVE.sub("", last).lower()).strip("-")
    return name or "dataset"
