"""The commands config list, show and export: every value with what it means, in a file that train takes."""

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from emc2_lite import cli
from emc2_lite.cli.commented import commented
from emc2_lite.losses import LOSSES
from emc2_lite.training import changed, from_dict, read_config, shipped_configs


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*arguments: str):
    return CliRunner().invoke(cli.main, ["config", *arguments])


def lines_of(text: str) -> dict[str, str]:
    """The line of each value, set or not, by its name; the names of later sections win."""
    lines = [line for line in text.splitlines() if " = " in line]
    return {line.removeprefix("# ").partition(" = ")[0]: line for line in lines}


def test_list_names_each_shipped_configuration_with_its_purpose():
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines] == shipped_configs()
    assert all(len(line.split()) > 5 for line in lines)


@pytest.mark.parametrize("name", shipped_configs())
def test_an_exported_configuration_is_the_same_one(name):
    result = run("export", name, "mine/own.toml")
    assert result.exit_code == 0, result.output
    assert result.output == "mine/own.toml. Now: emc2-lite train mine/own.toml\n"
    assert read_config("mine/own.toml") == read_config(name)
    assert Path("mine/own.toml").read_text() == run("show", name).output


@pytest.mark.parametrize("method", LOSSES)
def test_changes_are_exported_too(method):
    changes = {"loss.method": method, "data.folder": 'a "quoted" \\ \t ü \x7f folder', "optimiser.clip": 1e-30}
    config = changed(read_config("cifar10_small"), **changes)
    assert from_dict(tomllib.loads(commented(config))) == config


def test_every_value_is_shown_with_what_it_means_or_may_be():
    lines = lines_of(run("show", "stl10", "-p", "training.batch_size", "64").output)
    assert lines["temperature"] == "temperature = 0.07  # > 0, dimensionless; the paper's beta is its inverse"
    assert lines["batch_size"] == "batch_size = 64  # a whole number of 2 or more"
    assert lines["norm"] == 'norm = "none"  # one of none, group, batch'
    assert lines["clip"] == "# clip = ...  # not set; the gradient's largest norm"
    assert lines["kernel"].startswith('# kernel = "metropolis"  # the default; ')
    assert lines["momentum"] == '# momentum = 0.9  # nothing reads it where name is "adam"'
    assert all("  # " in line for line in lines.values())


def test_no_line_is_too_long_and_the_rest_of_a_comment_stands_below_it():
    text = run("show", "imagenet100").output
    assert max(map(len, text.splitlines())) <= 120
    assert "# views.replay" not in text and "budget = " in text
    (rest,) = [line for line in text.splitlines() if "the learning rate follows what is spent" in line]
    assert rest.startswith(" " * 10) and rest.strip().startswith("# ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "nothing"), "There is no configuration nothing: name a file that ends in .toml, or one of cifar10"),
        (("show", "digits", "-p", "training.epoch", "3"), "[training] has no 'epoch'"),
        (("export", "digits", "own.txt"), "FILE is own.txt: its name must end in .toml"),
        (("export", "digits", "there.toml"), "there.toml exists: delete it, or choose another name."),
        (("export", "digits", "there.toml/own.toml"), "there.toml"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(arguments, sentence):
    Path("there.toml").write_text("the reader's")
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output.splitlines()[-1]
    assert [path.read_text() for path in Path().iterdir()] == ["the reader's"]
