"""What goes wrong on the command line, in one sentence each; tracebacks only with --debug."""

import shlex
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import click

from emc2_lite.interruption import Stopped, stops

INTERRUPTED = 130
TYPED = "emc2_lite.typed"


class Command(click.Command):
    """Keeps the arguments as they were typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)


class Main(click.Group):
    """Takes --debug before or after the command's name (JupyterLab has a --debug of its own), and answers the
    unforeseen in a sentence."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--debug" in args and "lab" not in args[:1]:
            args = ["--debug", *(arg for arg in args if arg != "--debug")]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        with _warnings_in_a_sentence():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort) as known:
                if ctx.params["debug"] and known.__context__ is not None:
                    traceback.print_exception(known.__context__)
                raise
            except Exception as failure:
                if ctx.params["debug"]:
                    traceback.print_exception(failure)
                raise click.ClickException(_unforeseen(failure)) from None


def _unforeseen(failure: Exception) -> str:
    first = (str(failure).strip().splitlines() or ["no message"])[0][:300]
    return (
        f"Something that emc2-lite did not foresee: {type(failure).__name__}: {first}. Please report it {_where()}, "
        "with the command and what --debug adds to it."
    )


def _where() -> str:
    try:
        urls = metadata("emc2-lite").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    address = next((url.partition(", ")[2] for url in urls if url.startswith("Repository, ")), None)
    return f"at {address}/issues" if address else "to those from whom you have emc2-lite"


@contextmanager
def _warnings_in_a_sentence() -> Iterator[None]:
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *place: f"Warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def in_a_sentence(interrupted: Callable[[], str]) -> Iterator[None]:
    """Errors that a user can mend, in one sentence; after a signal, what `interrupted()` says is left."""
    try:
        import emc2_lite.runs  # noqa: F401 - first: an exception in the midst of torch's import may get lost in it

        with stops():
            yield
    except (KeyboardInterrupt, Stopped) as stop:
        with suppress(OSError):  # a terminal that is lost
            click.echo(f"\n{interrupted()}", err=True)
        sys.exit(stop.code if isinstance(stop, Stopped) else INTERRUPTED)
    except OSError as failure:
        words = failure.strerror or str(failure)
        raise click.ClickException(f"{failure.filename}: {words}" if failure.filename else words) from None
    except ValueError as problem:
        raise click.ClickException(str(problem)) from None
    except (RuntimeError, MemoryError) as failure:
        if not _is_memory(failure):
            raise
        place = "the GPU's memory" if type(failure).__name__ == "OutOfMemoryError" else "this machine's memory"
        raise click.ClickException(
            f"{place} is full: take a smaller training.batch_size, views.size or encoder.dim, or on a GPU "
            "training.precision bfloat16 or float16 (--dry-run says what a run needs)"
        ) from None


def _is_memory(failure: Exception) -> bool:
    return (
        isinstance(failure, MemoryError)
        or type(failure).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(failure)
    )


def command_again(*more: str) -> str:
    """The command that is running, quoted for the shell, with more arguments at its end."""
    context = click.get_current_context()
    typed = [arg for arg in context.meta[TYPED] if arg not in more]
    return shlex.join([*_program(), context.info_name, *typed, *more])


def _program() -> list[str]:
    """How this program is called: by its name where the shell finds it, else as it was called, or by its Python."""
    beside = Path(sys.executable).with_name("emc2-lite")
    found = shutil.which("emc2-lite")
    if found and beside.exists() and Path(found).samefile(beside):
        return ["emc2-lite"]
    return [sys.argv[0]] if Path(sys.argv[0]).name == "emc2-lite" else [sys.executable, "-m", "emc2_lite"]
