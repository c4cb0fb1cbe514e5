"""How much faster than torch's defaults each back end predicts an image: ratios of one run, with their spread.

    python -m benchmarks.inference [--threads 2] [--rounds 5] [--size 256x256 1040x1388] [--window 1040 1392]
        [--filters 16 32 64 128 256]

A ResUNet of patches of 256x256; its windows have that size too, or with `--window` what `inference.window` would set.
Each round goes through all back ends in turn, so that a slow minute of the machine meets them all; a ratio is of two
times of the same round. The processor's own seconds stand beside, which other work disturbs less. The first row,
torch's defaults, is the network alone in fp32 on the whole image, as a plain script runs it; Keras' U-Net of the same
filters is measured where TensorFlow is installed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ratios import Ratio, Took, quotients, table, timed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from segops.inference.predict import Predictor
    from segops.params.candidate import CandidateParams

DEFAULTS = "torch's defaults"
KERAS = "Keras"
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
            rows += beside(size, params, measure(runs, height, width, rounds, threads))
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
    clock_ms, cpu_ms = (1000 * statistics.median(values) for values in zip(*took[name], strict=True))
    clocks = ([times.clock_s for times in took[each]] for each in (base, name))
    return Ratio(what, name, f"{clock_ms:.1f} ms, {cpu_ms:.1f} of CPU", base, quotients(*clocks))


Run = Callable[["npt.NDArray[np.uint8]"], object]


def measure(runs: dict[str, Run], height: int, width: int, rounds: int, threads: int) -> dict[str, list[Took]]:
    """Time every run on an image, round by round, after a call that isn't counted."""
    import numpy as np
    import torch

    image_HWC = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for run in runs.values():
        run(image_HWC)
    took: dict[str, list[Took]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            torch.set_num_threads(1 if name.startswith(("onnx", "openvino")) else threads)  # as `runner` leaves them
            took[name].append(timed(partial(run, image_HWC)))
    return took


def _runs(folder: Path, params: CandidateParams, threads: int) -> dict[str, Run]:
    """Build what is measured: torch's defaults, Keras where it is there, and every back end that runs here."""
    import numpy as np

    from segops.export import backends
    from segops.inference.program import SegmentationProgram
    from segops.params.export import BACKENDS

    filters = params.model_dump()["model"]["filters"]
    runs: dict[str, Run] = {DEFAULTS: _defaults(filters), **_keras(filters)}
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    for backend in BACKENDS:
        predictor = _predictor(params)
        program = predictor.program
        assert isinstance(program, SegmentationProgram)
        if backends.lacking(backend, program) or backend == "tensorrt":
            continue
        if not (folder / backends.NETWORK).exists():
            backends.write_network(_predictor(params).program, folder)
            frames = (predictor._whole(noise) for _ in range(4))
            backends.write_int8_network(program, folder, frames)
        program.backend = backends.runner(backend, program, folder, threads)
        runs[backend] = predictor.maps
    return runs


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


def _network(filters: list[int]) -> Any:
    from segops.models.catalogue import build_network

    return build_network(_params(filters), 2)


def _defaults(filters: list[int]) -> Run:
    """Run the network on the whole image in contiguous fp32."""
    import torch
    from torch.nn import functional as F

    network = _network(filters).eval()
    for module in network.modules():
        if hasattr(module, "split"):
            module.split = False

    @torch.inference_mode()
    def run(image_HWC: npt.NDArray[np.uint8]) -> object:
        image_1CHW = torch.from_numpy(image_HWC).permute(2, 0, 1)[None].float() / 255
        height, width = image_1CHW.shape[2:]
        multiple = network.multiple
        return network(F.pad(image_1CHW, (0, -width % multiple, 0, -height % multiple)).contiguous()).sigmoid()

    return run


def _keras(filters: list[int]) -> dict[str, Run]:
    """Return Keras' ResUNet where TensorFlow is installed; layer by layer the network of ours."""
    try:
        keras: Any = import_module("keras")
    except ImportError:
        return {}
    layers = keras.layers

    def convolved(x: Any, width: int, stride: int = 1) -> Any:
        return layers.Conv2D(width, 3, stride, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))

    def block(x: Any, width: int, stride: int) -> Any:
        inner = convolved(convolved(x, width, stride), width)
        return layers.Add()([layers.Conv2D(width, 1, stride)(x), inner])

    given = keras.Input((None, None, 3))
    stem = convolved(layers.Conv2D(filters[0], 3, padding="same")(given), filters[0])
    x = layers.Add()([stem, layers.BatchNormalization()(layers.Conv2D(filters[0], 1)(given))])
    skips = []
    for width in filters[1:]:
        skips.append(x)
        x = block(x, width, 2)
    x = convolved(convolved(x, filters[-1]), filters[-1])
    for width, skip in zip(reversed(filters[1:]), reversed(skips), strict=True):
        x = block(layers.Concatenate()([layers.UpSampling2D()(x), skip]), width, 1)
    model = keras.Model(given, layers.Conv2D(1, 1, activation="sigmoid")(x))
    ours = sum(value.numel() for value in _network(filters).parameters())
    theirs = sum(weight.shape.num_elements() for weight in model.trainable_weights)
    assert theirs == ours, f"Keras' network has {theirs} weights, ours {ours}"

    def run(image_HWC: npt.NDArray[np.uint8]) -> object:
        import numpy as np

        height, width = image_HWC.shape[:2]
        padding = ((0, 0), (0, -height % 16), (0, -width % 16), (0, 0))
        return model.predict_on_batch(np.pad(image_HWC[None].astype(np.float32) / 255, padding))

    return {KERAS: run}


if __name__ == "__main__":
    main()
