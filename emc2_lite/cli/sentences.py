"""Errors on the command line, one sentence each; tracebacks only with --debug."""

import os
import shlex
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

import click

from emc2_lite.interruption import Stopped, leave, stops

INTERRUPTED = 130


class Main(click.Group):
    """Takes --debug before or after the command's name, and turns every error and warning into a sentence.

    JupyterLab has a --debug of its own, so that `lab` keeps a --debug after its name.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["emc2_lite.typed"] = list(args)
        if "--debug" in args and "lab" not in args[:1]:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            if os.environ.get("WORLD_SIZE", "1") == "1":
                raise
            leave(int(end.code or 0))

    def invoke(self, ctx: click.Context) -> object:
        before = warnings.formatwarning
        warnings.formatwarning = lambda message, *place: f"Warning: {message}\n"
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # as under "| head": click ends without a word
            raise
        except (click.ClickException, click.exceptions.Exit, click.Abort) as known:
            if ctx.params["debug"] and known.__context__ is not None:
                traceback.print_exception(known.__context__)
            raise
        except Exception as failure:
            if ctx.params["debug"]:
                traceback.print_exception(failure)
            raise click.ClickException(_unforeseen(failure)) from None
        finally:
            warnings.formatwarning = before


def _unforeseen(failure: Exception) -> str:
    first = (str(failure).strip().splitlines() or ["no message"])[0][:300]
    urls = []
    with suppress(PackageNotFoundError):
        urls = metadata("emc2-lite").get_all("Project-URL") or []
    address = next((url.removeprefix("Issues, ") for url in urls if url.startswith("Issues, ")), None)
    where = f"at {address}" if address else "to the people from whom you have emc2-lite"
    return (
        f"emc2-lite did not foresee this error: {type(failure).__name__}: {first}. Please report it {where}, with the "
        "command and its output with --debug."
    )


@contextmanager
def in_a_sentence(interrupted: Callable[[], str]) -> Iterator[None]:
    """Turn each error that a user can mend into a sentence; after a signal, say what `interrupted()` says."""
    try:
        import emc2_lite.runs  # noqa: F401 - before signals raise: torch's import may lose an exception

        with stops():
            yield
    except (KeyboardInterrupt, Stopped) as stop:
        with suppress(OSError):  # the terminal may be closed
            click.echo(f"\n{interrupted()}", err=True)
        sys.exit(stop.code if isinstance(stop, Stopped) else INTERRUPTED)
    except OSError as failure:
        words = failure.strerror or str(failure)
        raise click.ClickException(f"{failure.filename}: {words}" if failure.filename else words) from None
    except ValueError as problem:
        raise click.ClickException(str(problem)) from None
    except (RuntimeError, MemoryError) as failure:
        if type(failure).__name__ == "ProcessLost":
            raise click.ClickException(f"{failure}. {interrupted()}") from None
        on_gpu = type(failure).__name__ == "OutOfMemoryError"
        if not (on_gpu or isinstance(failure, MemoryError) or "can't allocate memory" in str(failure)):
            raise
        raise click.ClickException(
            f"{'the GPU' if on_gpu else 'this machine'}'s memory is full: take a smaller training.batch_size, "
            "views.size or encoder.dim, or on a GPU training.precision bfloat16 or float16 (--dry-run says how much "
            "memory a run needs)"
        ) from None


def what_is_left(subject: str, checkpoints: str, *more: str) -> str:
    """What an interrupted command has saved in its --output, and the command that goes on, with `more` arguments.

    The `subject` is saved if a file of the folder matches the pattern `checkpoints`; a dry run saves nothing.
    """
    context = click.get_current_context()
    output, script = context.params["output"], shutil.which("emc2-lite")
    own = script and Path(script).resolve().parent == Path(sys.executable).parent.resolve()
    program = ["emc2-lite"] if own else [sys.executable, "-m", "emc2_lite"]
    if (count := os.environ.get("WORLD_SIZE", "1")) != "1":
        program = ["torchrun", f"--nproc-per-node={count}", "-m", "emc2_lite"]
    saved = not context.params.get("dry_run") and any(output.glob(checkpoints))
    added = more if saved else ()
    typed = [argument for argument in context.meta["emc2_lite.typed"] if argument not in added]
    ending = f"{subject} saved in {output}; go on" if saved else "Interrupted before anything was saved; start again"
    return f"{ending} with: {shlex.join([*program, *typed, *added])}"
