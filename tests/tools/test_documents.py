"""README.md and docs/: short where they begin, and no link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import cli_page, plan_page
from tools.site_pages import site_links

_MAX_BYTES = 12 * 1024
_MAX_CHARACTERS = 120
_GENERATED = ("docs/reference/cli.md", "docs/reference/models.md", "docs/reference/params.md")
_FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _documents(root: Path) -> list[Path]:
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page: lower case, no punctuation, a hyphen for each space."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file or heading isn't there."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    return broken


def _long_lines(page: Path) -> list[str]:
    """The lines of prose over 120 characters, without tables, code fences and the targets of links."""
    lines = re.sub(r"\]\([^)\n]*\)", "]", _FENCE.sub("", page.read_text(encoding="utf-8"))).splitlines()
    return [line for line in lines if len(line) > _MAX_CHARACTERS and not line.lstrip().startswith("|")]


def _faults_of_decisions(page: Path) -> list[str]:
    """The entries of a page of decisions without a date, a title or a text, or older than the entry below."""
    faults, latest = [], "9999-99-99"
    for entry in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, text = entry.partition("\n")
        match = re.fullmatch(r"(20\d\d-[01]\d-[0-3]\d): \S.{9,}", heading)
        date = match[1] if match else ""
        if not match or not text.strip() or date > latest:
            faults.append(heading)
        latest = date or latest
    return faults


def test_no_relative_link_is_broken(root: Path) -> None:
    pages = _documents(root)
    assert {str(page.relative_to(root)): links for page in pages if (links := _broken_links(page))} == {}


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("[a](other.md)", []),
        ("[a](other.md#two-words)", []),
        ("[a](#here-it-is)", []),
        ("[a](https://example.org/none)", []),
        ("```\n[a](none.md)\n```", []),
        ("![a](none.png)", ["none.png"]),
        ("[a](other.md#none)", ["other.md#none"]),
        ("[a](#none)", ["#none"]),
    ],
)
def test_a_link_to_a_missing_file_or_heading_is_broken(tmp_path: Path, link: str, expected: list[str]) -> None:
    (tmp_path / "other.md").write_text("# Two words!\n")
    (tmp_path / "page.md").write_text(f"# Here it is\n\n{link}\n")
    assert _broken_links(tmp_path / "page.md") == expected


def test_lines_of_prose_are_short(root: Path) -> None:
    pages = [page for page in _documents(root) if str(page.relative_to(root)) not in _GENERATED]
    assert {str(page.relative_to(root)): lines for page in pages if (lines := _long_lines(page))} == {}


@pytest.mark.parametrize(
    ("text", "long"),
    [
        ("a" * 120, False),
        ("a" * 121, True),
        (f"[{'a' * 116}](other.md)", False),
        (f"[{'a' * 119}](other.md)", True),
        (f"| {'a' * 120} |", False),
        (f"```\n{'a' * 121}\n```", False),
    ],
)
def test_tables_code_and_targets_of_links_may_be_long(tmp_path: Path, text: str, long: bool) -> None:
    (tmp_path / "page.md").write_text(f"# Page\n\n{text}\n")
    assert bool(_long_lines(tmp_path / "page.md")) == long


def test_every_decision_has_a_date_and_a_title_and_the_newest_is_first(root: Path) -> None:
    pages = sorted((root / "docs/decisions").glob("*.md"))
    assert {
        page.name: faults for page in pages if page.stem != "index" and (faults := _faults_of_decisions(page))
    } == {}


@pytest.mark.parametrize(
    ("entries", "faults"),
    [
        ("## 2026-01-02: Splits by field\n\nWhy.\n\n## 2026-01-01: Splits by image\n\nWhy.\n", []),
        ("## Splits by field\n\nWhy.\n", ["Splits by field"]),
        ("## 2026-01-02\n\nWhy.\n", ["2026-01-02"]),
        ("## 2026-01-02: Splits by field\n", ["2026-01-02: Splits by field"]),
        (
            "## 2026-01-01: Splits by image\n\nWhy.\n\n## 2026-01-02: Splits by field\n\nWhy.\n",
            ["2026-01-02: Splits by field"],
        ),
    ],
)
def test_a_decision_without_date_title_or_text_is_a_fault(tmp_path: Path, entries: str, faults: list[str]) -> None:
    (tmp_path / "page.md").write_text(f"# Decisions\n\n{entries}")
    assert _faults_of_decisions(tmp_path / "page.md") == faults


def test_the_index_of_decisions_lists_every_title_in_order(root: Path) -> None:
    folder = root / "docs/decisions"
    listed = re.findall(
        r"^- \[(.+)\]\(([\w-]+\.md)#\S+\)$", (folder / "index.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    pages = list(dict.fromkeys(page for _, page in listed))
    assert {*pages, "index.md"} == {page.name for page in folder.glob("*.md")}
    titles = [
        (title, page)
        for page in pages
        for title in re.findall(r"^## (.+)$", (folder / page).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert listed == titles


def test_the_readme_is_at_most_12_kb(root: Path) -> None:
    assert (root / "README.md").stat().st_size <= _MAX_BYTES


def test_every_page_is_reached_from_the_readme(root: Path) -> None:
    seen: set[Path] = set()
    waiting = [(root / "README.md").resolve()]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        links = (link.partition("#")[0] for link in _LINK.findall(page.read_text(encoding="utf-8")))
        targets = {(page.parent / link).resolve() for link in links if link.endswith(".md") and ":" not in link}
        waiting += targets - seen
    assert set((root / "docs").resolve().rglob("*.md")) <= seen


def test_the_page_of_the_command_line_is_the_present_one(root: Path) -> None:
    assert (root / cli_page.PAGE).read_text(encoding="utf-8") == cli_page.page()


def test_the_page_of_the_plan_holds_the_present_rules(root: Path) -> None:
    assert plan_page.table() in (root / plan_page.PAGE).read_text(encoding="utf-8")


def test_the_page_of_the_command_line_has_each_option_with_its_default() -> None:
    promote = cli_page.page().split("\n## promote\n")[1].split("\n## ")[0]
    assert "| `--params` | `params.yaml` | The params file. |" in promote
    assert "| `--yes`, `-y` |  | Don't ask. |" in promote
    assert "| `VERSION` | required |" in promote


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("README.md", "[a](docs/how-to/search.md)", "[a](how-to/search.md)"),
        ("README.md", "![a](docs/images/a.png)", "![a](images/a.png)"),
        ("README.md", "[a](LICENSE)", "a"),
        ("docs/how-to/search.md", "[a](../results/search.md#b)", "[a](../results/search.md#b)"),
        ("docs/how-to/kubeflow.md", "[a](../../infra/kubernetes/README.md#b)", "[a](../kubernetes.md#b)"),
        ("infra/kubernetes/README.md", "[a](../../docs/how-to/search.md)", "[a](how-to/search.md)"),
        ("docs/decisions/index.md", "[a](#b) [c](https://example.org/d.md)", "[a](#b) [c](https://example.org/d.md)"),
    ],
)
def test_a_link_of_the_repository_leads_to_the_same_page_of_the_site(source: str, link: str, expected: str) -> None:
    assert site_links(link, source) == expected


def test_every_page_is_in_the_sites_contents(root: Path) -> None:
    contents = set(
        re.findall(r"[\w/-]+\.md\b", (root / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2])
    )
    pages = {page.relative_to(root / "docs").as_posix() for page in (root / "docs").rglob("*.md")}
    assert contents == pages | {"index.md", "contributing.md", "kubernetes.md"}
