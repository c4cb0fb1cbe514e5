"""code: one file per stage with the hashes of the code that its outputs depend on, for DVC to compare."""

from __future__ import annotations

from pathlib import Path

from segops import stages
from segops.files import output_folder, write_text
from segops.training.code_hash import code_hashes

# What a stage imports and what can't change its outputs: words on the console everywhere. A search and a training
# report to MLflow, and fetch published weights, whose hash params hold.
_CONSOLE = ("segops.progress",)
_REPORTING = ("segops.tracking", "segops.data.weights")
WITHOUT_INFLUENCE = dict.fromkeys(("tune", "train"), (*_CONSOLE, *_REPORTING))


def write_code_hashes(folder: Path) -> None:
    """Write `<folder>/<stage>`: a line `<module or template> <sha256>` for each file that the stage depends on.

    Comments and docstrings don't count, so that editing them runs no stage again; `diff` of two versions of a file says
    why a stage does.
    """
    with output_folder(folder) as partial:
        for name in stage_names():
            hashes = code_hashes(f"{stages.__name__}.{name}", without=WITHOUT_INFLUENCE.get(name, _CONSOLE))
            write_text(partial / name, "".join(f"{part} {digest}\n" for part, digest in hashes.items()))


def stage_names() -> list[str]:
    """Return the names of the graph's stages, sorted: each is a module of `segops.stages`."""
    return sorted(path.stem for path in Path(stages.__path__[0]).glob("*.py") if path.stem != "__init__")
