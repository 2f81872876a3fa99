"""A run from where it stands to its end: signs of life, metrics, checkpoints, evaluations, signals."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from emc2_lite.interruption import Interruption, Stopped
from emc2_lite.training.checkpoints import contents_of, load_checkpoint, save_checkpoint
from emc2_lite.training.collapse import CollapseMonitor, collapse_numbers
from emc2_lite.training.metrics import MetricsLog
from emc2_lite.training.progress import Progress
from emc2_lite.training.run import Run

LAST, BEST, METRICS = "last.pt", "best.pt", "metrics.jsonl"


def fit(run: Run, output: Path, evaluate: Callable[[nn.Module], float] | None = None, *, progress: bool = True) -> None:
    """Advance the run to its end, with signs of life, metrics, checkpoints and an evaluation from time to time.

    `output` holds `last.pt`, `best.pt` (of the highest `evaluate(encoder)`, an accuracy on labels that are not the test
    set's) and `metrics.jsonl`. If last.pt is there, the run goes on from it. SIGINT, SIGTERM and SIGHUP end the run
    after the step, when a checkpoint is written; after SIGKILL it goes on from the last checkpoint, to the same
    weights. A warning is given if the embeddings collapse.

    Raises:
        ValueError: if last.pt is damaged or of another configuration.
        OSError: if the disk is full. What was saved before stays.
        KeyboardInterrupt, Stopped: after a signal, when the checkpoint is written.
    """
    take_up(run, output)
    with (
        Interruption() as interruption,
        MetricsLog(output / METRICS, run.step, run.evaluated) as log,
        Progress(run.step, run.total_steps, run.config.training.batch_size, shown=progress) as shown,
    ):
        saved, row = time.monotonic(), {}
        monitor = CollapseMonitor(run.warmup_steps)
        measure = _Measure(run)
        if _evaluation(run, output, log, evaluate, interruption):  # that a signal had ended
            _save(run, output / LAST, interruption)
        while not run.finished:
            run.advance()
            if run.step % run.config.training.log_steps == 0 or run.finished:
                row = measure.row()
                log.write(_place(run) | row)
                if monitor.fires(run.step, row):
                    warnings.warn(_collapse_advice(run, row), stacklevel=2)
            shown.advance(row)
            _evaluation(run, output, log, evaluate, interruption)
            ending = run.finished or interruption.asked
            if ending or time.monotonic() - saved >= run.config.training.checkpoint_seconds:
                _save(run, output / LAST, interruption)
                saved = time.monotonic()
            if not run.finished:
                interruption.obey()


def take_up(run: Run, output: Path) -> None:
    """Load last.pt into the run, if it is there.

    Raises:
        ValueError: if it is damaged, of another configuration, or holds what a run does not.
    """
    last = output / LAST
    if last.exists():
        state = load_checkpoint(last)
        with contents_of(last):
            run.load_state_dict(state)


class _Measure:
    """Rows of metrics: the means since the last one, the speed, and how far apart the embeddings are."""

    def __init__(self, run: Run):
        self.run = run
        self.seconds, self.step = run.seconds, run.step

    def row(self) -> dict[str, float]:
        run = self.run
        images = (run.step - self.step) * run.config.training.batch_size
        speed = images / (run.seconds - self.seconds)
        self.seconds, self.step = run.seconds, run.step
        rate = run.schedule.get_last_lr()[0]
        apart = collapse_numbers(run.update.embeddings)
        return run.means() | apart | {"learning_rate": rate, "images_per_second": speed}


def _evaluation(run: Run, output: Path, log: MetricsLog, evaluate: Any, interruption: Interruption) -> bool:
    """Evaluate if it is time to; whether it was done. A signal ends it at once, and the run makes it again when it goes
    on."""
    every = run.config.training.evaluate_epochs
    epoch = run.step // run.sampler.batches_per_epoch
    due = run.epoch_ended and every > 0 and (epoch % every == 0 or run.finished)
    if evaluate is None or not due or run.evaluated == run.step:
        return False
    try:
        with interruption.at_once():
            accuracy = evaluate(run.encoder)
    except (KeyboardInterrupt, Stopped):
        return False
    log.write(_place(run) | {"accuracy": accuracy})
    run.evaluated = run.step
    if run.best is None or accuracy > run.best:
        run.best = accuracy
        _save(run, output / BEST, interruption)
    return True


def _save(run: Run, path: Path, interruption: Interruption) -> None:
    with interruption.saving():
        save_checkpoint(path, run.state_dict())


def _place(run: Run) -> dict[str, Any]:
    return {"step": run.step, "epoch": run.step / run.sampler.batches_per_epoch}


def _collapse_advice(run: Run, row: dict[str, float]) -> str:
    return (
        f"The embeddings have collapsed: negatives have a mean similarity of {row['negative_similarity']:.3f} and an "
        f"effective rank of {row['effective_rank']:.2f}. Start again with a lower optimiser.learning_rate than "
        f"{run.config.optimiser.learning_rate:g}, a longer optimiser.warmup_epochs, or optimiser.clip."
    )
