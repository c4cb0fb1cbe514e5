"""Checkpoints and locks: exact, atomic, and never in the way of a new start."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from segops.contracts.prepared import Prepared
from segops.errors import DiskFullError, UserError
from segops.locks import hold
from segops.params.candidate import CandidateParams
from segops.training import checkpoint
from segops.training.checkpoint import LOCK_FILE, STATE_FILE, is_locked, load_state, save_state, training_key
from tests.support.tiny_prepared import write_prepared

PARAMS = CandidateParams.model_validate({"model": {"architecture": "resunet"}})


def test_a_state_comes_back_with_the_same_bits(tmp_path: Path) -> None:
    tensors = {
        "half": torch.rand(3, 4).to(torch.bfloat16),
        "strided": torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "steps": torch.tensor(7),
        "odd": torch.tensor([math.nan, -0.0, 5e-324], dtype=torch.float64),
    }
    record = {"rate": 0.1 + 0.2, "least": 5e-324, "best": -math.inf, "epochs": [1, 2], "name": "é"}
    save_state(tmp_path, tensors, record)
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded[1] == record
    assert set(loaded[0]) == set(tensors)
    for name, tensor in tensors.items():
        torch.testing.assert_close(loaded[0][name], tensor, rtol=0, atol=0, equal_nan=True)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_no_state_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None


@pytest.mark.parametrize("keep_bytes", [0, 5, 200, -1])
def test_a_damaged_state_is_reported_and_gives_way(
    tmp_path: Path, keep_bytes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    save_state(tmp_path, {"weight": torch.rand(100)}, {"epoch": 1})
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:keep_bytes])
    assert load_state(tmp_path) is None
    assert f"{path}: damaged checkpoint" in capsys.readouterr().err
    assert not path.exists()


def test_a_state_that_is_not_ours_gives_way(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.rand(2)}, tmp_path / STATE_FILE)
    assert load_state(tmp_path) is None


def test_a_full_disk_is_a_user_error_and_keeps_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_state(tmp_path, {"weight": torch.zeros(1)}, {"epoch": 1})

    def full(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(DiskFullError, match=r"state.safetensors: no space left.*free space.*resumes"):
        save_state(tmp_path, {"weight": torch.ones(1)}, {"epoch": 2})
    loaded = load_state(tmp_path)
    assert loaded is not None
    assert loaded[1] == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_lock_refuses_another_process_names_the_holder_and_dies_with_it(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from segops.locks import hold\n"
        "with hold(Path(sys.argv[1]), refuse='busy'):\n    print('held', flush=True); sys.stdin.read()"
    )
    lock = tmp_path / LOCK_FILE
    with subprocess.Popen(
        [sys.executable, "-c", script, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        with (
            pytest.raises(UserError, match=rf"^trained by pid {other.pid} on \S+; wait$"),
            hold(lock, refuse="trained by {holder}; wait"),
        ):
            pytest.fail("two processes hold one lock")
        other.kill()
    assert not is_locked(tmp_path)
    with hold(lock, refuse="trained by {holder}; wait"):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_forked_process_neither_holds_nor_releases_the_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from segops.locks import hold\n"
        "with hold(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:\n        sys.exit()  # leaves the block of the lock that its parent holds\n"
        "    os.wait()\n    print('one left', flush=True); sys.stdin.readline()\n"
        "    if os.fork() == 0:\n        print('one stays', flush=True); time.sleep(60)\n"
        "    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / LOCK_FILE)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    ) as parent:  # fmt: skip
        assert parent.stdin is not None
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == "one left\n"
            assert is_locked(tmp_path)
            assert parent.pid == int((tmp_path / "lock.holder").read_text().split()[1])
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "one stays\n"
            parent.kill()
            parent.wait()
            assert not is_locked(tmp_path)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)


def test_a_changed_tensor_is_damage_and_the_training_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_state(tmp_path, {"weight": torch.zeros(4)}, {"epoch": 1})
    path = tmp_path / STATE_FILE
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # a bit of the last number
    path.write_bytes(content)
    assert load_state(tmp_path) is None
    assert "damaged checkpoint (its content differs from its hash)" in capsys.readouterr().err
    assert not path.exists()


def test_a_folder_without_a_lock_is_free(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)


def test_the_key_depends_on_everything_that_decides_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = Prepared.load(write_prepared(tmp_path / "one"))
    other = Prepared.load(write_prepared(tmp_path / "other", subsets=("train", "val", "test")))
    seeded = PARAMS.model_copy(update={"recipe": PARAMS.recipe.model_copy(update={"seed": 1})})

    def key(name: str = "a", params: CandidateParams = PARAMS, prepared: Prepared = meta, **setting: Any) -> str:
        where: dict[str, Any] = {"device": "cpu", "devices": 1, "precision": "fp32", "threads": 2}
        return training_key(name, params, prepared, **where | setting)

    keys = [
        key(),
        key("b"),
        key(params=seeded),
        key(prepared=other),
        key(device="cuda"),
        key(precision="bf16"),
        key(devices=2),
        key(threads=3),
    ]
    monkeypatch.setattr(checkpoint, "training_code_sha256", lambda: "of other code")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key()
    assert len(key()) == 64


def test_another_torch_trains_anew_and_another_way_to_predict_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = Prepared.load(write_prepared(tmp_path / "one"))
    setting: dict[str, Any] = {"device": "cpu", "devices": 1, "precision": "fp32", "threads": 2}
    key = training_key("a", PARAMS, meta, **setting)
    predicting = PARAMS.model_copy(update={"inference": PARAMS.inference.model_copy(update={"tta": "d4"})})
    assert training_key("a", predicting, meta, **setting) == key
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert training_key("a", PARAMS, meta, **setting) != key


@pytest.mark.parametrize("change", ["another name", "another shape", "another type"])
def test_numbers_under_another_name_shape_or_type_are_damage(tmp_path: Path, change: str) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    save_state(tmp_path, {"weight": torch.zeros(4)}, {"epoch": 1})
    path = tmp_path / STATE_FILE
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    changed = {
        "another name": {"bias": torch.zeros(4)},
        "another shape": {"weight": torch.zeros(2, 2)},
        "another type": {"weight": torch.zeros(4, dtype=torch.int32)},
    }
    save_file(changed[change], path, metadata=metadata)
    assert load_state(tmp_path) is None


def test_a_state_is_the_same_in_whatever_order_its_values_stand() -> None:
    tensors = {"a": torch.zeros(1), "b": torch.ones(1)}
    assert checkpoint._content_sha256(tensors, {"epoch": 1, "best": 0.5}) == checkpoint._content_sha256(
        dict(reversed(tensors.items())), {"best": 0.5, "epoch": 1}
    )
