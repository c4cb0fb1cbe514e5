"""audit's page: test images beside their relatives in training, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segops.contracts.audit import RELATIVES_FILE, Audit

if TYPE_CHECKING:
    import pandas as pd

    from segops.reports.dataset_pictures import Read

PAGE = "index.html"
_PAIRS = 6  # of a kind that are shown
_THUMBNAIL_PX = 160
_ROWS = 300  # of the table that are shown; all are in the CSV
_WORDS = {
    "same group": "Both are in one group, by the dataset's own group ids.",
    "duplicate": "Both have the same pixels.",
    "near-duplicate": "One is a copy of the other: turned, flipped, brightened, compressed, or slightly cropped.",
    "overlapping tile": "Both hold the same pixels, at different places.",
    "adjacent tile": "The edge of one continues in the other, or tiles between them connect them.",
    "neighbouring slice or frame": "Their names follow one another, and they look alike.",
}


def audit_page(audit: Audit, relatives: pd.DataFrame, manifest: pd.DataFrame, read: Read) -> str:
    """Render the page about a split's audit as HTML.

    Args:
        relatives: RELATIVE_COLUMNS.
        manifest: MANIFEST_COLUMNS.
        read: shard and image id to the example.
    """
    from segops.pictures.images import thumbnail_uri
    from segops.reports.pages import render

    shard_of = dict(zip(manifest["image_id"], manifest["shard"], strict=True))
    drawn: dict[str, str] = {}

    def picture(image_id: str) -> str:
        if image_id not in drawn:
            shown = read(shard_of[image_id], image_id).as_picture()
            drawn[image_id] = thumbnail_uri(shown.image_HWC, _THUMBNAIL_PX, photo=True)
        return drawn[image_id]

    kinds = []
    for kind, count in audit.by_kind.items():
        shown = relatives[relatives["kind"] == kind].head(_PAIRS).to_dict("records")
        if count:
            pairs = [(row, picture(str(row["image_id"])), picture(str(row["relative_id"]))) for row in shown]
            kinds.append((kind, count, _WORDS[kind], pairs))
    return render(
        "audit.html.j2",
        audit=audit,
        kinds=kinds,
        height_px=_THUMBNAIL_PX,
        share=audit.leaking_images / audit.test_images,
        rows=relatives.head(_ROWS).to_dict("records"),
        more=max(0, len(relatives) - _ROWS),
        csv=RELATIVES_FILE,
    )
