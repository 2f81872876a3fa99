"""How good the features of a run's checkpoint are."""

import json
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from emc2_lite import evaluation
from emc2_lite.evaluation.checks import check_shots
from emc2_lite.evaluation.probe import shuffled_members
from emc2_lite.records import Rows, write_whole
from emc2_lite.runs.images import images_in_words, load_views, pick_device, settings_of
from emc2_lite.training import LAST, Config, changed, contents_of, from_dict, load_checkpoint, make_encoder
from emc2_lite.vision.encoders import Encoder
from emc2_lite.vision.views import Views

EVALUATION = "evaluation.json"
PLACE = ("data.folder", "data.in_memory", "data.workers", "data.skip_corrupt")
LEAST_STEPS = 500  # of a supervised baseline with few labels
PAPER_PROBE = "linear probe, released code's protocol"
Labelled = tuple[Views, Tensor]


def few_probe(count: int) -> str:
    """The name of the probe's measure with few labels."""
    return f"linear probe, {count} labels a class"


def few_supervised(count: int) -> str:
    """The name of the supervised baseline's measure with few labels."""
    return f"supervised, {count} labels a class"


def evaluate_run(
    output: Path,
    *,
    checkpoint: str = LAST,
    device: str = "auto",
    labels_a_class: tuple[int, ...] = (),
    supervised_epochs: int = 0,
    download: bool = False,
    values: Mapping[str, Any] = MappingProxyType({}),
    tell: Callable[[str], object] = lambda line: None,
) -> Rows:
    """Evaluate the features of a run's checkpoint on the test set, with 95 % intervals: one row a measure.

    Measures: 1-NN, weighted 20-NN, the tuned linear probe and the released code's protocol; on request the tuned probe
    with few labels a class, and the supervised baseline, which trains the same encoder on the labels alone. With few
    labels the probe has five draws of them, and the baseline the first of these, for at least 500 steps. A measure that
    these images do not allow has no row.

    Args:
        output: the run's folder; the rows are also written there, to evaluation.json, or to evaluation-NAME.json.
        checkpoint: NAME.pt, by default last.pt, whose rows are in evaluation.json.
        labels_a_class, supervised_epochs: of the measures on request, 1 or more labels; 0 epochs for no baseline.
        values: the present place of the images and how to read them, by the names in `PLACE`, in place of the run's.
        tell: is called with a line on the images, on each missing row, and on a row that needs a caution.

    Raises: ValueError, FileNotFoundError: if checkpoint or images are missing or damaged, or if no measure has a row.
    """
    path = output / checkpoint
    state = load_checkpoint(path)
    if any(count < 1 for count in labels_a_class):
        raise ValueError(f"labels_a_class is {labels_a_class}: a probe needs 1 label a class or more.")
    if odd := next((name for name in values if name not in PLACE), None):
        raise ValueError(f"{odd} belongs to the run and cannot be changed for an evaluation: use {', '.join(PLACE)}.")
    place = pick_device(device)
    with contents_of(path):
        config = from_dict(state["config"])
        encoder = make_encoder(config).to(place)
        encoder.load_state_dict(state["encoder"])
        folder, step = state["images"]["folder"], int(state["step"])
    if "data.folder" not in values and config.data.name != "digits" and not Path(config.data.folder).exists():
        values = {"data.folder": folder, **values}
    config = changed(config, **values)
    rows: Rows = []
    missing = []
    with settings_of(config, place):
        known, test = (load_views(config, part, place, download=download) for part in ("labelled", "test"))
        tell(f"fitted on {images_in_words(known[1], known[0].classes)}, tested on {len(test[1]):,}")
        chance = int((test[1] + 1).bincount(minlength=2)[1:].max()) / len(test[1])  # without label: -1
        tell(f"chance: {chance:.3f}, the accuracy of naming the commonest class of the test images for each of them")
        for measure, work in _measures(config, encoder, known, test, labels_a_class, supervised_epochs).items():
            try:
                rows += [{"measure": measure, **row} for row in work()]
            except ValueError as problem:
                missing.append(f"{measure}: {problem}")
    if not rows:
        raise ValueError(missing[0])
    for reason in missing:
        tell(f"No row for {reason}")
    if any(row["measure"] == PAPER_PROBE for row in rows):
        words = "The released code's protocol takes few steps of SGD on unscaled features, "
        tell(words + "and on a small set it is far from trained: compare encoders by the tuned probe.")
    name = EVALUATION if checkpoint == LAST else f"evaluation-{path.stem}.json"
    found = {"checkpoint": checkpoint, "step": step, "chance": chance, "rows": rows, "missing": missing}
    write_whole(output / name, json.dumps(found, indent=1) + "\n")
    return rows


def _measures(
    config: Config, encoder: Encoder, known: Labelled, test: Labelled, counts: tuple[int, ...], epochs: int
) -> dict[str, Callable[[], Rows]]:
    """The functions that give each measure's rows, by the measure's name."""
    points = [part for views, labels in (known, test) for part in (evaluation.features_of(encoder, views), labels)]

    def row(accuracy: evaluation.Interval) -> Rows:
        return [{"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}]

    def supervised(count: int | None = None) -> Rows:
        """Trained on all labels, or for at least `LEAST_STEPS` steps on the first draw of `count` labels a class."""
        torch.manual_seed(config.training.seed)
        fresh, indices, length = make_encoder(config).to(points[0].device), None, epochs
        if count is not None:
            check_shots(known[1], count, "labels_a_class holds")
            members = shuffled_members(known[1], torch.Generator().manual_seed(0))
            indices = torch.cat([images[:count] for images in members])
        b = min(config.training.batch_size, len(known[1]) if indices is None else len(indices))
        if indices is not None:
            length = max(epochs, math.ceil(LEAST_STEPS / (len(indices) // b)))
        how: dict[str, Any] = {"epochs": length, "batch_size": b, "indices": indices, "seed": config.training.seed}
        return row(evaluation.supervised_accuracy(fresh, *known, *test, **how))

    measures = {
        "1-NN": lambda: row(evaluation.knn_accuracy(*points, k=1)),
        "20-NN, weighted": lambda: row(evaluation.knn_accuracy(*points, k=min(20, len(known[1])))),
        "linear probe, tuned": lambda: row(evaluation.linear_probe(*points).accuracy),
        PAPER_PROBE: lambda: row(evaluation.linear_probe(*points, protocol="paper").accuracy),
    }
    if epochs:
        measures[f"supervised, {epochs} epochs"] = supervised
    for count in counts:
        few_labels = partial(evaluation.label_efficiency, *points, counts=[count])
        measures[few_probe(count)] = few_labels
        if epochs:
            measures[few_supervised(count)] = partial(supervised, count)
    return measures
