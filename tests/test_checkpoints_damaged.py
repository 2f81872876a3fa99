"""A checkpoint with any changed byte is refused by name, and so is a checkpoint of something else."""

import os
import random
import re
from pathlib import Path

import pytest
import torch
from runs import small

from emc2_lite.runs import evaluate_run, train_run
from emc2_lite.training import load_checkpoint, save_checkpoint

ONE_EPOCH = small("NT-Xent", training__epochs=1)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train_run(ONE_EPOCH, folder, progress=False)
    return (folder / "last.pt").read_bytes()


def refused(path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load_checkpoint(path)


def test_any_flipped_bit_of_a_runs_checkpoint_is_noticed(content, tmp_path):
    """200 random bits of the file, one at a time."""
    draw, path = random.Random(0), tmp_path / "last.pt"
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        refused(path)
    path.write_bytes(content)
    assert load_checkpoint(path)["step"] == 6


def test_any_changed_byte_of_a_small_checkpoint_is_noticed(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"weights": torch.arange(10.0), "step": 5})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        refused(path)


def test_an_added_byte_and_a_cut_end_are_noticed(content, tmp_path):
    path = tmp_path / "last.pt"
    for other in (content + b"x", content[:-1], content[:-81], b""):
        path.write_bytes(other)
        refused(path)


def test_a_file_without_read_permission_is_not_called_damaged(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"step": 5})

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(PermissionError, match=r"cannot read the checkpoint .* \(Permission denied\): it may be a good"):
        load_checkpoint(path)


def other_contents(state: dict) -> dict[str, dict]:
    """States that load but are no run's: without each key in turn, and with values of another kind or shape."""
    cases = {f"without {key}": {k: v for k, v in state.items() if k != key} for key in state}
    weights = dict.fromkeys(state["encoder"], torch.zeros(2, 2))
    return cases | {
        "other weights": state | {"encoder": weights},
        "weights that are a list": state | {"encoder": [1, 2]},
        "a generator of another kind": state | {"generator": torch.zeros(3)},
        "an order that is no tensor": state | {"sampler": state["sampler"] | {"order": [1]}},
        "a configuration that is a number": state | {"config": 3},
        "images that are a number": state | {"images": 3},
        "an optimiser without groups": state | {"optimiser": {}},
        "sums that are a list": state | {"sums": [1]},
    }


def test_training_refuses_a_checkpoint_of_something_else(content, tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    state = load_checkpoint(path)
    del state["format"]
    for name, other in other_contents(state).items():
        save_checkpoint(path, other)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            train_run(ONE_EPOCH, tmp_path, progress=False)
            pytest.fail(name)
    assert sorted(os.listdir(tmp_path)) == ["last.pt"]


def test_an_evaluation_refuses_a_checkpoint_of_something_else(content, tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    state = load_checkpoint(path)
    for other in ("without config", "without encoder", "other weights", "without step", "images that are a number"):
        save_checkpoint(path, {k: v for k, v in other_contents(state)[other].items() if k != "format"})
        with pytest.raises(ValueError, match=re.escape(str(path))):
            evaluate_run(tmp_path)
