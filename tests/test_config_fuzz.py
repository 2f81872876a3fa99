"""Any input gives a configuration or one sentence, never another error. By hypothesis."""

import dataclasses
import json
from contextlib import suppress

import click
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from emc2_lite.cli.options import config_of
from emc2_lite.training import Config, changed, from_dict, read_config, shipped_configs
from emc2_lite.training.config import settings_of_method
from emc2_lite.training.configuring import SECTIONS

NAMES = [f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
NAMES += [f"loss.{name}" for method in ("SogCLR", "cache", "EMC2") for name in settings_of_method(method)[0]]
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**63, 2**64, 10**400]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["EMC2", "SogCLR", "digits", "folder", "resnet18", "adam", "multiproposal", "remembered", "cuda"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
)
names = st.sampled_from(NAMES) | st.text(max_size=12)
FEW = settings(max_examples=300, deadline=None, derandomize=True)


@FEW
@given(st.sampled_from(shipped_configs()), st.dictionaries(names, values, max_size=4))
@example("digits", {"loss.method": ["EMC2"]})
@example("digits", {"loss.method": {}})
@example("cifar10", {"views.sigma": [2, 1]})
@example("digits", {"loss.kernel": "multiproposal", "loss.burn_in": 0.5})
def test_named_values_make_a_configuration_or_a_sentence(name, given_values):
    try:
        config = changed(read_config(name), **given_values)
    except ValueError as refused:
        assert "\n" not in str(refused) and len(str(refused)) < 600
    else:
        assert isinstance(config, Config)
        assert from_dict(json.loads(json.dumps(config.as_dict()))) == config


@FEW
@given(st.dictionaries(st.sampled_from([*SECTIONS, "other"]), values | st.dictionaries(names, values, max_size=3)))
def test_sections_make_a_configuration_or_a_sentence(sections):
    try:
        assert isinstance(from_dict(sections), Config)
    except ValueError as refused:
        assert "\n" not in str(refused)


texts = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    values.map(repr),
    st.sampled_from(["[" * 1000, "(" * 5000, "1" * 5000, "{'a': 1}", "{1, 2}", "b'x'", "1j", "...", "true", "none"]),
)


@FEW
@given(st.sampled_from(shipped_configs()), st.lists(st.tuples(names, texts), max_size=3))
@example("cifar10", [("views.scale", "[0.2, 1.0]")])
@example("digits", [("training", "{'epochs': 3}")])
def test_typed_values_make_a_configuration_or_a_sentence(name, typed):
    with suppress(ValueError, click.UsageError):
        assert isinstance(config_of(name, tuple(typed), None, False), Config)


@pytest.mark.parametrize(
    "content", ["x = " + "[" * 100_000, "", "a", "[loss]\nmethod = 1979-05-27", "\x00", "[loss.x]\ny = 1", "data = []"]
)
def test_a_file_makes_a_configuration_or_a_sentence(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_text(content)
    try:
        assert read_config(path) == Config()
    except ValueError as refused:
        assert str(path) in str(refused)
