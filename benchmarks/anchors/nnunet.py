"""nnU-Net v2 in two dimensions: its own planner, preprocessing, trainer and predictor, on a CPU.

Its trainer gets our training and validation images as its only fold, and epochs of ten steps and two validation steps,
which is its own ratio of 250 to 50, as many as the budget holds, so that its learning rate falls over what is trained.
Planning and preprocessing have their own time, as our `ingest` and `prepare` have. Data are augmented in this process,
since the time of others would not be counted. Prediction is its default: windows by half, Gaussian weights, all
mirrored. `--memory 1` plans for a card of 1 GB instead of 8: smaller batches, of which a CPU does more.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.anchors.foreign import (
    Stopwatch,
    Task,
    mask_of,
    read_task,
    seconds_of,
    set_seed,
    write_figures,
    write_masks,
)

DATASET = "Dataset001_Nuclei"
STEPS, VAL_STEPS = 10, 2


def main() -> None:
    """Plan, train within the budget, predict, and write the figures."""
    task = read_task(memory=8.0)
    home = (task.out / "nnunet").resolve()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(home / name)
    # The planner sets torch's threads to the number of augmenting processes, so it can't be 0 yet.
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    watch = Stopwatch()
    about = write_raw(task, home / "raw" / DATASET)
    watch.lap("writing")
    plans = planned(task, home)
    watch.lap("plan")
    os.environ |= {"nnUNet_n_proc_DA": "0"}
    set_seed(task.seed)
    steps, epochs = within(trainer_of(plans, about), task.seconds)
    watch.lap("timing")
    set_seed(task.seed)
    trainer = trainer_of(plans, about)
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, steps
    trainer.num_val_iterations_per_epoch = VAL_STEPS
    trainer.run_training()
    watch.lap("train")
    write_masks(task, predictor_of(trainer))
    watch.lap("predict")
    configuration = trainer.configuration_manager
    write_figures(
        task,
        watch,
        ("nnunetv2", "torch"),
        epochs=epochs,
        steps=epochs * steps,
        patch=[int(side) for side in configuration.patch_size],
        batch=int(configuration.batch_size),
        **task.variant,
    )


def write_raw(task: Task, folder: Path) -> dict[str, Any]:
    """Write training and validation images as nnU-Net's raw dataset; return its dataset.json."""
    (folder / "labelsTr").mkdir(parents=True, exist_ok=True)
    (folder / "imagesTr").mkdir(exist_ok=True)
    images = [*task.images("train"), *task.images("val")]
    for path in images:
        for link, target in (
            (folder / "imagesTr" / f"{path.stem}_0000.png", path),
            (folder / "labelsTr" / path.name, mask_of(path)),
        ):
            link.unlink(missing_ok=True)
            link.symlink_to(target.resolve())
    about: dict[str, Any] = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "nucleus": 1},
        "numTraining": len(images),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    return about


def planned(task: Task, home: Path) -> dict[str, Any]:
    """Plan and preprocess the dataset, and hand over the split; return the plans."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    extract_fingerprint_dataset(1, num_processes=1, clean=True, verbose=False)
    plans: dict[str, Any]
    plans, _ = plan_experiment_dataset(1, gpu_memory_target_in_gb=task.variant["memory"])
    preprocess_dataset(1, configurations=["2d"], num_processes=(1,), show_progress_bar=False)
    fold = {subset: [path.stem for path in task.images(subset)] for subset in ("train", "val")}
    (home / "preprocessed" / DATASET / "splits_final.json").write_text(json.dumps([fold]))
    return plans


def trainer_of(plans: dict[str, Any], about: dict[str, Any]) -> Any:
    """Return nnU-Net's trainer."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    return nnUNetTrainer({**plans, "continue_training": False}, "2d", 0, about, torch.device("cpu"))


def within(tried: Any, seconds: float) -> tuple[int, int]:
    """Return steps an epoch, and epochs that fit into CPU seconds, by the time of an epoch of a few steps.

    An epoch's end, with its checkpoint and its chart, is timed too.
    """
    import torch

    tried.on_train_start()
    trained: list[Any] = []
    validated: list[Any] = []
    tried.on_epoch_start()
    tried.on_train_epoch_start()
    step_s = seconds_of(lambda: trained.append(tried.train_step(next(tried.dataloader_train))), 2)
    tried.on_train_epoch_end(trained)
    tried.on_validation_epoch_start()
    with torch.no_grad():
        val_s = seconds_of(lambda: validated.append(tried.validation_step(next(tried.dataloader_val))))
    tried.on_validation_epoch_end(validated)
    rest_s = VAL_STEPS * val_s + seconds_of(tried.on_epoch_end)
    epochs = int(seconds / (STEPS * step_s + rest_s))
    return (STEPS, epochs) if epochs else (max(1, int((seconds - rest_s) / step_s)), 1)


def predictor_of(trainer: Any) -> Any:
    """Return the function from image_HWC to mask_HW of a trained trainer's network."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    predictor = nnUNetPredictor(device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        type(trainer).__name__,
        trainer.inference_allowed_mirroring_axes,
    )

    def predict(image_HWC: np.ndarray) -> np.ndarray:
        image_CDHW = image_HWC.transpose(2, 0, 1)[:, None].astype(np.float32)
        mask_DHW = predictor.predict_single_npy_array(image_CDHW, {"spacing": (999, 1, 1)})
        return np.asarray(mask_DHW[0])

    return predict


if __name__ == "__main__":
    main()
