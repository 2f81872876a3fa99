"""Configured runs from start to finish: find the images, train, evaluate, write the record."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from emc2_lite.evaluation import (
    Interval,
    features_of,
    knn_accuracy,
    label_efficiency,
    linear_probe,
    nearest_neighbour_accuracy,
    supervised_accuracy,
    validation_split,
)
from emc2_lite.records import circumstances, write_record, write_whole
from emc2_lite.training import (
    LAST,
    METRICS,
    Config,
    Run,
    fit,
    from_dict,
    load_checkpoint,
    make_encoder,
    read_metrics,
)
from emc2_lite.vision import DigitViews, FileViews, FolderImages, ImageViews, LabelledImages, load_images
from emc2_lite.vision.views import Views

RECORD, EVALUATION = "record.json", "evaluation.json"
SAME_IMAGES = ("digits", "cifar10", "imagenet100", "folder")  # trained on and labelled: the same images


def pick_device(name: str) -> torch.device:
    """The device that "cpu", "cuda" or "auto" names.

    Raises:
        ValueError: if a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "A GPU is asked for, and torch finds none: on Colab choose a GPU runtime; "
            "elsewhere say training.device cpu, or auto."
        )
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def load_views(config: Config, part: str, device: torch.device, *, download: bool = False) -> tuple[Views, Tensor]:
    """Views of a part of the configured images, on the device, and their labels (N,), -1 where there is none.

    Args:
        part: "train", "labelled" or "test", see `emc2_lite.vision.load_images`.
        download: fetch a data set that is not there.

    Raises:
        FileNotFoundError, ValueError: if the images are missing or damaged.
    """
    data = config.data
    images = load_images(
        data.name,
        part,
        data.folder,
        samples=data.samples if part == "train" else None,
        download=download,
        skip_corrupt=data.skip_corrupt,
    )
    if isinstance(images, FolderImages) and data.in_memory:
        images = images.in_memory()
    if isinstance(images, LabelledImages):
        resident = images.images.to(device)
        return (ImageViews(resident, config.views) if config.views else DigitViews(resident)), images.labels
    return FileViews(images, config.views, device, workers=data.workers), images.labels


def neighbour_monitor(views: Views, labels: Tensor, count: int) -> Callable[[nn.Module], float] | None:
    """encoder -> 1-NN accuracy of a held-out fifth among the rest of at most `count` labelled images.

    The test set has no part in it, so the best checkpoint may be chosen by it. None if there are no labels, or no two
    images of a class.
    """
    labelled = (labels >= 0).nonzero().flatten()
    if not len(labelled):
        return None
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(0))
    chosen = labelled[order[:count]].sort().values
    chosen = chosen[labels[chosen].bincount()[labels[chosen]] > 1]  # one to hold out, one to find it by
    if not len(chosen):
        return None
    known, held_out = validation_split(labels[chosen])

    def accuracy(encoder: nn.Module) -> float:
        features = features_of(encoder, views, chosen)
        of = labels[chosen].to(features.device)
        return nearest_neighbour_accuracy(features[known], of[known], features[held_out], of[held_out])

    return accuracy


def train_run(config: Config, output: Path, *, download: bool = False, progress: bool = True) -> dict[str, Any]:
    """Train as configured, into the folder `output`, or go on where the run in it stopped; returns its record.

    Raises:
        ValueError, FileNotFoundError, OSError: what `load_views` and `fit` raise; nothing is written before the images
            are there.
    """
    device = pick_device(config.training.device)
    with settings_of(config, device):
        views, labels = load_views(config, "train", device, download=download)
        run = Run(config, views, device)
        evaluate = None
        if config.training.evaluate_epochs:
            if config.data.name not in SAME_IMAGES or config.data.samples:
                views, labels = load_views(config, "labelled", device, download=download)
            evaluate = neighbour_monitor(views, labels, config.training.evaluate_images)
        output.mkdir(parents=True, exist_ok=True)
        fit(run, output, evaluate, progress=progress)
    rows = read_metrics(output / METRICS)
    record = {
        "experiment": "train",
        "config": config.as_dict(),
        "seeds": [config.training.seed],
        **circumstances(device_name(device)),
        "seconds": round(run.seconds, 1),
        "metrics": rows,
        "final": [{**rows[-1], "best_accuracy": run.best}],
    }
    write_record(output / RECORD, record)
    return record


def evaluate_run(
    output: Path,
    *,
    checkpoint: str = LAST,
    device: str = "auto",
    labels_a_class: tuple[int, ...] = (),
    supervised_epochs: int = 0,
    download: bool = False,
) -> list[dict[str, Any]]:
    """How good the features of a run's checkpoint are on the test set, with 95 % intervals: one row a measure.

    1-NN, weighted 20-NN, the tuned linear probe and the released code's protocol; on request the tuned probe with few
    labels a class, and the supervised baseline: the same encoder trained on the labels alone.

    Args:
        output: the run's folder; the rows are also written there, to evaluation.json.
        checkpoint: file name of the checkpoint in it.
        labels_a_class: numbers of labels for the label-efficiency rows.
        supervised_epochs: of the supervised baseline; 0 leaves it out.

    Raises:
        ValueError, FileNotFoundError: if the checkpoint or the images are missing or damaged.
    """
    state = load_checkpoint(output / checkpoint)
    config = from_dict(state["config"])
    place = pick_device(device)
    with settings_of(config, place):
        encoder = make_encoder(config.encoder).to(place)
        encoder.load_state_dict(state["encoder"])
        rows = list(_measures(config, encoder, place, labels_a_class, supervised_epochs, download))
    found = {"checkpoint": checkpoint, "step": state["step"], "rows": rows}
    write_whole(output / EVALUATION, json.dumps(found, indent=1) + "\n")
    return rows


def _measures(
    config: Config, encoder: nn.Module, device: torch.device, counts: tuple[int, ...], epochs: int, download: bool
) -> Iterator[dict[str, Any]]:
    known_views, known = load_views(config, "labelled", device, download=download)
    test_views, asked = load_views(config, "test", device, download=download)
    points = (features_of(encoder, known_views), known.to(device), features_of(encoder, test_views), asked.to(device))

    def row(measure: str, accuracy: Interval) -> dict[str, Any]:
        return {"measure": measure, "accuracy": accuracy.value, "low": accuracy.low, "high": accuracy.high}

    yield row("1-NN", knn_accuracy(*points, k=1))
    yield row("20-NN, weighted", knn_accuracy(*points, k=min(20, len(known))))
    for protocol, words in (("tuned", "linear probe, tuned"), ("paper", "linear probe, released code's protocol")):
        yield row(words, linear_probe(*points, protocol=protocol).accuracy)
    for few in label_efficiency(*points, counts=counts) if counts else ():
        yield {"measure": f"linear probe, {few['labels_per_class']} labels a class", **few}
    if epochs:
        fresh = make_encoder(config.encoder).to(device)
        batch_size = min(config.training.batch_size, len(known))
        learnt = supervised_accuracy(fresh, known_views, known, test_views, asked, epochs=epochs, batch_size=batch_size)
        yield row(f"supervised, {epochs} epochs", learnt)


@contextmanager
def settings_of(config: Config, device: torch.device) -> Iterator[None]:
    """Threads as configured, and on a GPU operations that give the same bits every time, as resuming needs."""
    threads = torch.get_num_threads()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    benchmark = torch.backends.cudnn.benchmark
    if config.training.threads:
        torch.set_num_threads(config.training.threads)
    if device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
