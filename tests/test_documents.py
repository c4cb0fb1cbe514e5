"""README.md and docs/: short where they begin, and no link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import cli_page
from tools.site_pages import site_links

_MAX_BYTES = 12 * 1024
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
        ("docs/decisions.md", "[a](#b) [c](https://example.org/d.md)", "[a](#b) [c](https://example.org/d.md)"),
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
