"""A run advanced to its end, with progress, metrics, checkpoints, evaluations and signals."""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from emc2_lite.interruption import Interruption, Stopped
from emc2_lite.training.checkpoints import contents_of, load_checkpoint, save_checkpoint
from emc2_lite.training.collapse import CollapseMonitor, collapse_numbers
from emc2_lite.training.loggers import LOGGERS, MakeLogger
from emc2_lite.training.metrics import MetricsLog
from emc2_lite.training.progress import Progress
from emc2_lite.training.run import Run
from emc2_lite.vision.encoders import Encoder

LAST, BEST, METRICS = "last.pt", "best.pt", "metrics.jsonl"
Evaluate = Callable[[Encoder], float]


def fit(
    run: Run,
    output: Path,
    evaluate: Evaluate | None = None,
    *,
    progress: bool = True,
    loggers: Sequence[MakeLogger] = (),
) -> None:
    """Advance the run to its end; write metrics, checkpoints and evaluations into the folder `output`.

    `last.pt` is the last checkpoint, `best.pt` the one of the highest `evaluate(encoder)`, an accuracy on labels that
    are not the test set's, and `metrics.jsonl` holds the rows of metrics, which also go to the configured loggers and
    to `loggers` (`emc2_lite.training.loggers.Logger`). If last.pt exists, the run resumes from it. SIGINT, SIGTERM and
    SIGHUP save a checkpoint after the step, then stop; after SIGKILL the run resumes from the last checkpoint, to the
    same weights. A warning says if the embeddings collapse. Of several processes, the leader alone evaluates, writes
    and warns, and a signal to one stops all after the same step.

    Raises: ValueError: if last.pt is damaged, of another configuration, or not the state of a run; OSError: on a full
        disk; all files saved before stay; KeyboardInterrupt, Stopped: after a signal, once the checkpoint is written.
    """
    last = output / LAST
    if run.processes.everyones(last.exists())[0]:
        with run.processes.together():
            state = load_checkpoint(last)
            with contents_of(last):
                run.load_state_dict(state)
    evaluates = run.processes.everyones(evaluate is not None)[0]
    makers = [*map(LOGGERS.__getitem__, run.config.training.loggers or ()), *loggers]
    how: dict[str, Any] = {"loggers": makers, "config": run.config.as_dict()}
    training, per_epoch, leader = run.config.training, run.sampler.batches_per_epoch, run.processes.leader
    with (
        Interruption() as interruption,
        MetricsLog(output / METRICS, run.step, run.evaluated, **how) if leader else nullcontext() as log,
        Progress(int(run.done), run.total_steps, training.batch_size, shown=progress and leader) as shown,
    ):
        saved, row = time.monotonic(), {}
        monitor = CollapseMonitor()
        step, seconds = run.step, run.seconds
        if _evaluated(run, output, log, evaluate, evaluates, interruption):  # a signal had ended this evaluation
            _save(run, last, interruption)
        while not run.finished:
            run.advance()
            if run.step % training.log_steps == 0 or run.finished:
                row = run.means() | collapse_numbers(run.embeddings())
                row["learning_rate"] = float(run.schedule.get_last_lr()[0])
                row["images_per_second"] = (run.step - step) * training.batch_size / (run.seconds - seconds)
                step, seconds = run.step, run.seconds
                if log is not None:
                    log.write({"step": run.step, "epoch": run.step / per_epoch} | row)
                if leader and run.done > run.warmup_steps and monitor.fires(run.step, row):
                    warnings.warn(_collapse_advice(run, row), stacklevel=2)
            shown.advance(row, run.done)
            _evaluated(run, output, log, evaluate, evaluates, interruption)
            late = time.monotonic() - saved >= training.checkpoint_seconds
            asked, due = run.processes.largest(interruption.asked or 0, int(late))
            if run.finished or asked or due:
                _save(run, last, interruption)
                saved = time.monotonic()
            if asked and not run.finished:
                interruption.asked = asked
                interruption.obey()


def _evaluated(
    run: Run,
    output: Path,
    log: MetricsLog | None,
    evaluate: Evaluate | None,
    evaluates: bool,
    interruption: Interruption,
) -> bool:
    """Make an evaluation that is due, and return whether it was made; a resumed run makes one that a signal ended.

    evaluates: whether the leader has an `evaluate`; the others wait for it.
    """
    per_epoch = run.sampler.batches_per_epoch
    every = run.config.training.evaluate_epochs * per_epoch
    due = every > 0 and (run.step % every == 0 or run.finished)
    if not evaluates or not due or run.evaluated == run.step:
        return False
    accuracy = None
    with run.processes.together(), suppress(KeyboardInterrupt, Stopped):
        if evaluate is not None and run.processes.leader:
            with interruption.at_once():
                accuracy = evaluate(run.encoder)
    accuracy = run.processes.everyones(accuracy)[0]
    if accuracy is None:
        return False
    if log is not None:
        log.write({"step": run.step, "epoch": run.step / per_epoch, "accuracy": accuracy})
    run.evaluated = run.step
    if run.best is None or accuracy > run.best:
        run.best = accuracy
        _save(run, output / BEST, interruption)
    return True


def _save(run: Run, path: Path, interruption: Interruption) -> None:
    with interruption.saving():
        state = run.state_dict()
        with run.processes.together():  # none leaves before the file is there
            if run.processes.leader:
                save_checkpoint(path, state)


def _collapse_advice(run: Run, row: dict[str, float]) -> str:
    return (
        f"The embeddings have collapsed: negatives have a mean similarity of {row['negative_similarity']:.3f} and an "
        f"effective rank of {row['effective_rank']:.2f}. Start again with a lower optimiser.learning_rate than "
        f"{run.config.optimiser.learning_rate:g}, a longer optimiser.warmup_epochs, or optimiser.clip."
    )
