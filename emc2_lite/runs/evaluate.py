"""Say how good the features of a run's checkpoint are."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from emc2_lite.evaluation import (
    Interval,
    features_of,
    knn_accuracy,
    label_efficiency,
    linear_probe,
    supervised_accuracy,
)
from emc2_lite.records import write_whole
from emc2_lite.runs.images import images_in_words, load_views, pick_device, settings_of
from emc2_lite.training import LAST, Config, changed, contents_of, from_dict, load_checkpoint, make_encoder

EVALUATION = "evaluation.json"
PLACE = ("data.folder", "data.in_memory", "data.workers", "data.skip_corrupt")
PAPER_PROBE = "linear probe, released code's protocol"


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
) -> list[dict[str, Any]]:
    """How good the features of a run's checkpoint are on the test set, with 95 % intervals: one row a measure.

    1-NN, weighted 20-NN, the tuned linear probe and the released code's protocol; on request the tuned probe with few
    labels a class, and the supervised baseline: the same encoder trained on the labels alone. A measure that these
    images do not allow has no row.

    Args:
        output: the run's folder; the rows are also written there, to evaluation.json, or for another checkpoint than
            last.pt to evaluation-NAME.json.
        checkpoint: file name of the checkpoint in it.
        labels_a_class: numbers of labels for the label-efficiency rows.
        supervised_epochs: of the supervised baseline; 0 leaves it out.
        values: where the images are now and how they are read, by the names in `PLACE`, in the place of the run's own.
        tell: hears in a line why a row is missing, and what to think of one.

    Raises:
        ValueError, FileNotFoundError: if the checkpoint or the images are missing or damaged, or there is not one row.
    """
    path = output / checkpoint
    state = load_checkpoint(path)
    if odd := [name for name in values if name not in PLACE]:
        raise ValueError(
            f"{odd[0]} belongs to the run and cannot be changed for an evaluation: use {', '.join(PLACE)}."
        )
    place = pick_device(device)
    with contents_of(path):
        config = from_dict(state["config"])
        folder = state["images"]["folder"]
        encoder = make_encoder(config.encoder).to(place)
        encoder.load_state_dict(state["encoder"])
        step = int(state["step"])
    if "data.folder" not in values and config.data.name != "digits" and not Path(config.data.folder).exists():
        values = {"data.folder": folder, **values}
    config = changed(config, **values)
    rows, problems = [], []
    with settings_of(config, place):
        for measure, work in _measures(config, encoder, place, labels_a_class, supervised_epochs, download, tell):
            try:
                rows += [{"measure": measure, **row} for row in work()]
            except ValueError as problem:
                problems.append(f"{measure}: {problem}")
    if not rows:
        raise ValueError(problems[0])
    for problem in problems:
        tell(f"No row for {problem}")
    if any(row["measure"] == PAPER_PROBE for row in rows):
        tell(
            "The released code's protocol takes few steps of SGD on the features as they are, and on a small set it is "
            "far from trained: compare encoders by the tuned probe."
        )
    name = EVALUATION if checkpoint == LAST else f"evaluation-{path.stem}.json"
    found = {"checkpoint": checkpoint, "step": step, "rows": rows, "missing": problems}
    write_whole(output / name, json.dumps(found, indent=1) + "\n")
    return rows


def _measures(
    config: Config,
    encoder: nn.Module,
    device: torch.device,
    counts: tuple[int, ...],
    epochs: int,
    download: bool,
    tell: Callable[[str], object],
) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
    """Each measure's name, and the work that gives its rows."""
    known_views, known = load_views(config, "labelled", device, download=download)
    test_views, asked = load_views(config, "test", device, download=download)
    tell(f"fitted on {images_in_words(known, known_views.classes)}, tested on {len(asked):,}")
    points = (features_of(encoder, known_views), known.to(device), features_of(encoder, test_views), asked.to(device))

    def row(accuracy: Interval) -> list[dict[str, Any]]:
        return [{"accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}]

    yield "1-NN", lambda: row(knn_accuracy(*points, k=1))
    yield "20-NN, weighted", lambda: row(knn_accuracy(*points, k=min(20, len(known))))
    for protocol, words in (("tuned", "linear probe, tuned"), ("paper", PAPER_PROBE)):
        yield words, lambda protocol=protocol: row(linear_probe(*points, protocol=protocol).accuracy)
    for count in counts:
        yield f"linear probe, {count} labels a class", lambda count=count: label_efficiency(*points, counts=[count])
    if epochs:
        fresh = make_encoder(config.encoder).to(device)
        batch_size = min(config.training.batch_size, len(known))
        yield (
            f"supervised, {epochs} epochs",
            lambda: row(
                supervised_accuracy(fresh, known_views, known, test_views, asked, epochs=epochs, batch_size=batch_size)
            ),
        )
