"""How much of the network's own rate a folder's prediction reaches: reading, deciding and writing stand beside it.

    python -m benchmarks.folder_prediction [--images 2000] [--rounds 1] [--backends torch openvino-int8]

The folder holds RGB PNGs of 256x256, of which a few are drawn and the others are copies. The network alone, on one
image at a time, is timed before and after each folder; a share is its seconds for as many images divided by those of
`segops predict` without its start.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tarfile
import tempfile
import time
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ratios import Ratio, Took, cpu_seconds, table, timed

if TYPE_CHECKING:
    from segops.inference.predict import Predictor
    from segops.params.export import Backend

FILTERS = [16, 32, 64, 128, 256]
BACKENDS: list[Backend] = ["torch", "openvino-int8"]
SHARE_GOAL = 0.85
_DRAWN = 4  # fields, of several pictures each


def main() -> None:
    """Measure each backend and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 2000), ("rounds", 1), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--backends", nargs="+", default=BACKENDS)
    print(table(compare(**vars(parser.parse_args()))))


def ratios(rounds: int) -> list[Ratio]:
    """Return the rows of a smaller folder."""
    return compare(images=400, rounds=rounds, threads=2, backends=BACKENDS)


def compare(images: int, rounds: int, threads: int, backends: list[Backend]) -> list[Ratio]:
    """Predict a folder with each backend, round by round, beside the network alone."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        draw(root / "images", images)
        write_model(root, backends, threads)
        rounds_of: dict[str, list[tuple[Took, Took]]] = {backend: [] for backend in backends}
        for _ in range(rounds):
            for backend, measured in rounds_of.items():
                measured.append(measure(root, backend, images, threads))
    return [_ratio(f"predict {images} pictures of 256x256", *of_backend) for of_backend in rounds_of.items()]


def _ratio(what: str, backend: str, measured: list[tuple[Took, Took]]) -> Ratio:
    shares = tuple(alone.clock_s / folder.clock_s for alone, folder in measured)
    of_cpu = statistics.median(alone.cpu_s / folder.cpu_s for alone, folder in measured)
    clock_s, cpu_s = map(statistics.median, zip(*(folder for _, folder in measured), strict=True))
    figure = f"{clock_s:.1f} s, {cpu_s:.1f} of CPU, {of_cpu:.0%} of which the network's"
    return Ratio(what, backend, figure, "the network's own rate", shares, SHARE_GOAL)


def draw(folder: Path, images: int) -> None:
    """Write the pictures."""
    from segops.data.sources.synthetic import parse, write_archive

    folder.mkdir()
    archive = folder.parent / "drawn.tar"
    write_archive(archive, parse(f"synthetic://nuclei?n={_DRAWN}&size=256&seed=1"))
    with tarfile.open(archive) as tar:
        members = [each for each in tar.getmembers() if each.name.startswith("images/")]
        drawn = [tar.extractfile(each).read() for each in members]  # type: ignore[union-attr]
    for number, content in zip(range(images), cycle(drawn), strict=False):
        (folder / f"{number:05}.png").write_bytes(content)


def write_model(root: Path, backends: list[Backend], threads: int) -> None:
    """Write a candidate of random weights and its table of backends, as an export leaves them."""
    import numpy as np
    import torch

    from segops.contracts.backends import Backends, MeasuredBackend
    from segops.export import backends as files
    from segops.files import sha256_file
    from segops.inference.predict import Predictor
    from segops.inference.trained import build_program
    from segops.params.candidate import CandidateParams
    from tests.support.small_models import save_candidate

    torch.manual_seed(0)
    params = CandidateParams.model_validate(
        {"model": {"architecture": "resunet", "filters": FILTERS}, "input": {"size": 256, "resize": "none"}}
    )
    program, table = build_program(params, 2), root / "backends"
    model = save_candidate(root / "model", program, params)
    table.mkdir()
    calibrating: Any = Predictor.load(root / "model")
    files.write_network(program, table)
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    files.write_int8_network(calibrating.program, table, (calibrating._whole(noise) for _ in range(4)))
    rows = [
        MeasuredBackend(
            backend=backend, milliseconds=1.0, dice_loss=0.0, ap_loss=None, allowed=True,
            files={name: sha256_file(table / name) for name in files.FILES[backend]},
        )
        for backend in backends
    ]  # fmt: skip
    Backends(
        candidate=model.candidate, weights_sha256=model.weights_sha256, assignment_sha256=model.assignment_sha256,
        images=1, threads=threads, device="cpu", max_dice_loss=1.0, max_ap_loss=1.0, backends=rows, skipped=[],
    ).save(table)  # fmt: skip


def measure(root: Path, backend: str, images: int, threads: int) -> tuple[Took, Took]:
    """Predict the folder; return the network's time alone for as many images, and the folder's without its start."""
    from segops.commands.predict import PredictRequest, Segmenter, predict
    from segops.commands.used_model import UsedModel
    from segops.params.runtime import RuntimeParams
    from segops.params.tracking import TrackingParams

    out = root / "masks"
    runtime = RuntimeParams(threads=threads, device="cpu")
    request = PredictRequest(
        str(root / "model"), runtime, TrackingParams(), [root / "images"], out, overlays=False, backend=backend,
        exported=root,
    )  # fmt: skip
    predictor = Segmenter(request, UsedModel(root / "model", "model")).predictor
    single = replace(request, inputs=[root / "images/00000.png"])
    timed(partial(predict, single))
    start = timed(partial(predict, single))
    before = network_s(predictor)
    whole = timed(partial(predict, request))
    after = network_s(predictor)
    shutil.rmtree(out)
    alone = Took(*(images * statistics.mean(pair) for pair in zip(before, after, strict=True)))
    return alone, Took(whole.clock_s - start.clock_s, whole.cpu_s - start.cpu_s)


def network_s(predictor: Predictor, calls: int = 60) -> Took:
    """Return the seconds of the network alone on an image, by the clock (median) and of the processor (mean)."""
    import torch

    program: Any = predictor.program
    frame_BChw = torch.rand(1, program.channels, 256, 256)
    run = program.backend or (lambda frame: program.network.probabilities(program.network(frame)))
    times_s = []
    with torch.inference_mode():
        for number in range(calls + 3):
            if number == 3:
                used = cpu_seconds()
            began = time.perf_counter()
            run(frame_BChw.contiguous(memory_format=torch.channels_last))
            times_s.append(time.perf_counter() - began)
    return Took(statistics.median(times_s[3:]), (cpu_seconds() - used) / calls)


if __name__ == "__main__":
    main()
