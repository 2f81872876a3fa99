"""A configured run, from the images to the record."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emc2_lite.evaluation import features_of, nearest_neighbour_accuracy, validation_split
from emc2_lite.locking import locked
from emc2_lite.records import new_record, read_record_file, write_record
from emc2_lite.runs.images import class_name, device_name, images_in_words, load_views, pick_device, settings_of
from emc2_lite.training import BEST, METRICS, Config, Run, fit, read_metrics
from emc2_lite.training.loggers import MakeLogger, check_loggers
from emc2_lite.training.price import step_price
from emc2_lite.training.processes import processes
from emc2_lite.vision.encoders import Encoder
from emc2_lite.vision.views import Views

RECORD, LOCK = "record.json", ".lock"
SAME_IMAGES = ("digits", "cifar10", "imagenet100", "folder")  # the images to train on are the labelled ones


def neighbour_monitor(views: Views, labels: Tensor, count: int) -> Callable[[Encoder], float] | None:
    """encoder -> 1-NN accuracy of a held-out fifth among the rest of at most `count` labelled images.

    Test images have no part in the accuracy, so it may choose the best checkpoint. None if fewer than 2 classes have 2
    labelled images.

    >>> from emc2_lite.vision import DigitEncoder, DigitViews, load_digits
    >>> digits = load_digits("train")
    >>> accuracy = neighbour_monitor(DigitViews(digits.images), digits.labels, count=200)
    >>> 0.1 < accuracy(DigitEncoder()) < 1
    True
    """
    labelled = (labels >= 0).nonzero().flatten()
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(0))
    chosen = labelled[order[:count]].sort().values
    chosen = chosen[labels[chosen].bincount()[labels[chosen]] > 1]  # one image to hold out, one to find it by
    classes = labels[chosen]
    if len(classes.unique()) < 2:
        return None
    known, held_out = validation_split(classes)

    def accuracy(encoder: Encoder) -> float:
        features = features_of(encoder, views, chosen)
        return nearest_neighbour_accuracy(features[known], classes[known], features[held_out], classes[held_out])

    return accuracy


def length_in_words(config: Config, steps_per_epoch: int) -> str:
    """Such as "20 epochs of 44 steps"."""
    length = f"{config.training.epochs} epochs of {steps_per_epoch:,} steps"
    return length if config.training.budget == "epochs" else f"the price of {length} of NT-Xent"


def train_run(
    config: Config,
    output: Path,
    *,
    download: bool = False,
    progress: bool = True,
    tell: Callable[[str], object] = lambda line: None,
    loggers: Sequence[MakeLogger] = (),
) -> dict[str, Any]:
    """Train as configured, into the folder `output`, or resume the run in it; returns the run's record.

    `download` fetches a missing data set, and `progress` shows the run's progress, on stderr or in the notebook. `tell`
    is called with lines on the images, the length of the run, and measures that cannot be taken. `loggers` get the rows
    of metrics besides those configured (`emc2_lite.training.loggers.Logger`). Under torchrun the processes share the
    run: each takes a part of every batch, and the first one alone writes.

    Raises: Locked: if another process works in the folder; ValueError, FileNotFoundError, OSError: as `load_views` and
        `fit`, ProcessLost: if another process ends; SystemExit: where another process says why all end. No checkpoint
        is written before the images are read.
    """
    training = config.training
    check_loggers(training.loggers or ())
    with processes(training.device, training.processes) as team, ExitStack() as stack:
        device = team.gpu or pick_device(training.device)
        for leaders_turn in (True, False):  # the leader first: it may have to fetch the images
            with team.together():
                if leaders_turn and team.leader:
                    output.mkdir(parents=True, exist_ok=True)
                    stack.enter_context(locked(output / LOCK, f"the run in {output}"))
                if leaders_turn == team.leader:
                    stack.enter_context(settings_of(config, device))
                    views, labels = load_views(config, "train", device, download=download and team.leader)
        same = {"The configuration": config, "The set of images": f"{len(views)} {views.identity}"}
        team.check_same(same | {"The version of torch": torch.__version__, "The device": device_name(device)})
        with team.together():
            run = Run(config, views, device, team)
        tell(f"{config.data.name}: {images_in_words(labels, views.classes)}")
        length = length_in_words(config, run.sampler.batches_per_epoch)
        shared = f" for each of {team.size} processes" if team.size > 1 else ""
        tell(f"{length} on {device_name(device)}{shared}, in {run.precision}")
        with team.together():
            found = training.evaluate_epochs and team.leader
            evaluate = _monitor(config, views, labels, device, download, tell) if found else None
        fit(run, output, evaluate, progress=progress, loggers=loggers)
        return team.everyones(_record_of(run, output, tell) if team.leader else None)[0]


def _monitor(
    config: Config, views: Views, labels: Tensor, device: torch.device, download: bool, tell: Callable[[str], object]
) -> Callable[[Encoder], float] | None:
    """The 1-NN accuracy along the way, or None, with a word why."""
    if config.data.name not in SAME_IMAGES or config.data.samples:
        views, labels = load_views(config, "labelled", device, download=download)
    monitor = neighbour_monitor(views, labels, config.training.evaluate_images)
    if monitor is None:
        tell(f"No 1-NN accuracy along the way, and no {BEST}: {_no_monitor(labels, views.classes)}")
    return monitor


def _record_of(run: Run, output: Path, tell: Callable[[str], object]) -> dict[str, Any]:
    """The record of a finished run, written to the folder; an older record with more rows of metrics stays."""
    rows, config, training = read_metrics(output / METRICS), run.config.as_dict(), run.config.training
    if (output / RECORD).exists():
        try:
            before = read_record_file(output / RECORD)
        except ValueError as problem:
            tell(f"The record is made again: {problem}")
        else:
            if before["config"] == config and len(before["metrics"]) > len(rows):
                tell(f"{output / METRICS} lacks rows that the record has: the record stays as it is")
                return before
    if not rows:
        tell(f"{output / METRICS} has no rows that can be read: the record says only how the run ended")
    last = rows[-1] if rows else {"step": run.step, "epoch": run.step / run.sampler.batches_per_epoch}
    price = run.spent / (run.step * step_price(None, training.batch_size))
    final, device = [{**last, "best_accuracy": run.best, "relative_price": price}], device_name(run.device)
    record = new_record(
        "train", config=config, seeds=[training.seed], device=device, seconds=run.seconds, metrics=rows, final=final
    )
    write_record(output / RECORD, record)
    return record


def _no_monitor(labels: Tensor, classes: tuple[str, ...]) -> str:
    found = labels[labels >= 0].unique().tolist()
    if len(found) == 1:
        return f"all images are of one class, {class_name(found[0], classes)}, and an accuracy needs 2"
    return "fewer than 2 classes have 2 images or more" if found else "the images have no labels"
