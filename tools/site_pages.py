"""MkDocs hook: the pages of the site whose files are outside docs/, with their links and those to them put right.

It runs in the site's own environment (`make docs-site`), which has no segops.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # in the repository: in the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "infra/kubernetes/README.md": "kubernetes.md",
}
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]+)?\)")
_WITHOUT_PAGE = re.compile(r"\[([^\]]*)\]\(LICENSE\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are outside docs/."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Make each relative link of a page, which is right in the repository, right in the site."""
    source = {there: here for here, there in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return site_links(markdown, source)


def site_links(markdown: str, source: str) -> str:
    """The text of the repository's file `source` with the links of its page in the site."""
    own = posixpath.dirname(_in_site(source))

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        return f"]({posixpath.relpath(_in_site(target), own or '.')}{match[2] or ''})"

    return _LINK.sub(link, _WITHOUT_PAGE.sub(r"\1", markdown))


def _in_site(path: str) -> str:
    return PAGES.get(path, path.removeprefix("docs/"))
