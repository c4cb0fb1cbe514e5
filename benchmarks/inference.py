"""How much faster than torch's defaults each back end predicts an image: ratios of one run, with their spread.

    python -m benchmarks.inference [--threads 2] [--rounds 5] [--size 256x256 1040x1388] [--window 1040 1392]
        [--filters 16 32 64 128 256]

A ResUNet of patches of 256x256; its windows have that size too, or with `--window` what `inference.window` would set.
A round has about a megapixel, small images in a row as in a folder. The processor's own time stands beside the clock's,
since other work disturbs it less. Torch's defaults and Keras, where TensorFlow is installed, are the network alone in
fp32 on the whole image, each as a plain script runs it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.plain_networks import DEFAULTS, KERAS, plain_networks
from benchmarks.ratios import Ratio, Took, quotients, table, timed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from segops.inference.predict import Predictor
    from segops.params.candidate import CandidateParams

FILTERS = [16, 32, 64, 128, 256]
GOALS = {"256x256": (None, 6.0), "1040x1388": (8.0, None)}  # of the fastest, beside torch's defaults and Keras


def main() -> None:
    """Measure all back ends at each size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", nargs="+", default=["256x256", "1040x1388"])
    parser.add_argument("--window", type=int, nargs=2, help="height and width")
    parser.add_argument("--filters", type=int, nargs="+", default=FILTERS)
    arguments = parser.parse_args()
    params = _params(arguments.filters, arguments.window)
    print(table(compare(arguments.size, params, arguments.rounds, arguments.threads)))


def ratios(rounds: int) -> list[Ratio]:
    """Return the rows of both goals: a large picture by windows, and in a window of its own size."""
    rows = compare(["256x256", "1040x1388"], _params(FILTERS), rounds, threads=2)
    return rows + compare(["1040x1388"], _params(FILTERS, [1040, 1392]), rounds, threads=2)


def compare(sizes: list[str], params: CandidateParams, rounds: int, threads: int) -> list[Ratio]:
    """Measure all back ends at each size, beside torch's defaults, and the fastest beside Keras."""
    from segops.training.process import prepare_process

    prepare_process(threads)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        runs = _runs(Path(name), params, threads)
        for size in sizes:
            height, width = map(int, size.split("x"))
            rows += beside(size, params, measure(runs, height, width, rounds))
    return rows


def beside(size: str, params: CandidateParams, took: dict[str, list[Took]]) -> list[Ratio]:
    """Set what was measured of a size beside torch's defaults, and the fastest back end beside Keras."""
    window = params.inference.window or (256, 256)
    what = f"predict {size}, windows of {window[0]}x{window[1]}"
    rows = [_ratio(what, took, name, DEFAULTS) for name in took if name != DEFAULTS]
    ours = [row for row in rows if row.variant != KERAS]
    fastest = max(ours, key=lambda row: row.median)
    goal_of_defaults, goal_of_keras = GOALS.get(size, (None, None))
    rows[rows.index(fastest)] = replace(fastest, goal=goal_of_defaults)
    if KERAS in took:
        rows.append(replace(_ratio(what, took, fastest.variant, KERAS), goal=goal_of_keras))
    return rows


def _ratio(what: str, took: dict[str, list[Took]], name: str, base: str) -> Ratio:
    clocks = ([times.clock_s for times in took[each]] for each in (base, name))
    return Ratio(what, name, _milliseconds(took[name]), f"{base}, {_milliseconds(took[base])}", quotients(*clocks))


def _milliseconds(took: list[Took]) -> str:
    clock_ms, cpu_ms = (1000 * statistics.median(values) for values in zip(*took, strict=True))
    return f"{clock_ms:.1f} ms ({cpu_ms:.1f} of CPU)"


Run = Callable[["npt.NDArray[np.uint8]", int], Took]  # of an image, so many times


def measure(runs: dict[str, Run], height: int, width: int, rounds: int) -> dict[str, list[Took]]:
    """Time every run on about a megapixel a round, after a call that isn't counted."""
    import numpy as np

    image_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    times = max(1, 2**20 // (height * width))
    for run in runs.values():
        run(image_HWC, 1)
    took: dict[str, list[Took]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            took[name].append(run(image_HWC, times))
    return took


def _runs(folder: Path, params: CandidateParams, threads: int) -> dict[str, Run]:
    """Start what is measured: torch's defaults, Keras where it is there, and every back end that runs here."""
    from segops.export import backends
    from segops.inference.program import SegmentationProgram
    from segops.params.export import BACKENDS

    with ProcessPoolExecutor(1, get_context("spawn")) as process:  # which gives back the memory that calibration takes
        process.submit(_write_networks, folder, params).result()
    filters = params.model_dump()["model"]["filters"]
    runs: dict[str, Run] = {network.name: network.took for network in plain_networks(filters, threads)}
    for backend in BACKENDS:
        predictor = _predictor(params)
        program = predictor.program
        assert isinstance(program, SegmentationProgram)
        if backends.lacking(backend, program) or backend == "tensorrt":
            continue
        program.backend = backends.runner(backend, program, folder, threads)
        own_threads = 1 if backend.startswith(("onnx", "openvino")) else threads  # as `runner` leaves torch's own
        runs[backend] = partial(_took, predictor, own_threads)
    return runs


def _write_networks(folder: Path, params: CandidateParams) -> None:
    import numpy as np

    from segops.export import backends
    from segops.inference.program import SegmentationProgram

    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    predictor = _predictor(params)
    assert isinstance(predictor.program, SegmentationProgram)
    backends.write_network(_predictor(params).program, folder)
    backends.write_int8_network(predictor.program, folder, (predictor._whole(noise) for _ in range(4)))


def _took(predictor: Predictor, threads: int, image_HWC: npt.NDArray[np.uint8], times: int) -> Took:
    import torch

    torch.set_num_threads(threads)
    return timed(partial(predictor.maps, image_HWC), times)


def _params(filters: list[int], window: list[int] | None = None) -> CandidateParams:
    from segops.params.candidate import CandidateParams

    given = {"model": {"architecture": "resunet", "filters": filters}, "input": {"size": 256, "resize": "none"}}
    return CandidateParams.model_validate(given | {"inference": {"window": window}})


def _predictor(params: CandidateParams) -> Predictor:
    """Build a predictor with weights of seed 0."""
    import torch

    from segops.inference.predict import Predictor
    from segops.inference.trained import build_program
    from tests.support.small_models import trained_model

    torch.manual_seed(0)
    return Predictor(build_program(params, 2), trained_model(params=params.model_dump(mode="json")))


if __name__ == "__main__":
    main()
