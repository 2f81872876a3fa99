"""What the Tab key offers, through the classes that click's shell scripts ask."""

import pytest
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from emc2_lite.cli import main


def offered(*typed: str) -> list[str]:
    """The words that a shell offers for the last of the typed words."""
    *arguments, incomplete = typed
    complete = ShellComplete(main, {}, "emc2-lite", "_EMC2_LITE_COMPLETE")
    return [item.value for item in complete.get_completions(arguments, incomplete)]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["d"], ["doctor"]),
        (["train", "cifar10_"], ["cifar10_small"]),
        (["sweep", "s"], ["stl10"]),
        (["config", "show", "d"], ["digits"]),
        (["config", "export", "i"], ["imagenet100"]),
        (["experiment", "st"], ["stationarity", "step-times"]),
        (["fetch", "s"], ["stl10"]),
        (["sweep", "digits", "--methods", "N"], ["NT-Xent"]),
        (["sweep", "digits", "--methods", "DCL,EMC2,"], ["DCL,EMC2,NT-Xent", "DCL,EMC2,SogCLR", "DCL,EMC2,cache"]),
        (["train", "digits", "-p", "training.ev"], ["training.evaluate_epochs", "training.evaluate_images"]),
        (["train", "digits", "-p", "loss.g"], ["loss.gamma"]),
        (["train", "digits", "-p", "loss.method", "S"], ["SogCLR"]),
        (["train", "digits", "-p", "loss.method", "DCL", "--parameter", "training.budget", ""], ["epochs", "price"]),
        (["train", "digits", "-p", "training.compile", "t"], ["true"]),
        (["train", "digits", "-p", "training.epochs", ""], []),
    ],
)
def test_tab_offers_the_names_that_begin_so(typed, words):
    assert offered(*typed) == words


def test_files_are_offered_where_no_configuration_begins_so():
    complete = ShellComplete(main, {}, "emc2-lite", "_EMC2_LITE_COMPLETE")
    assert [item.type for item in complete.get_completions(["train"], "my_")] == ["file"]


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_the_help_says_how_each_shell_learns_it(shell, capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    assert f"_EMC2_LITE_COMPLETE={shell.name}_source emc2-lite" in capsys.readouterr().out
    assert "_EMC2_LITE_COMPLETE" in shell(main, {}, "emc2-lite", "_EMC2_LITE_COMPLETE").source_template % {
        "complete_func": "f",
        "complete_var": "_EMC2_LITE_COMPLETE",
        "prog_name": "emc2-lite",
    }
