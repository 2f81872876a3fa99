"""Every example in a docstring runs, and what a user calls of the losses and the samplers has one."""

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import emc2_lite
from emc2_lite import losses, sampling
from emc2_lite.course import pages

ROOT = Path(emc2_lite.__file__).parent
MODULES = [
    import_module(".".join(("emc2_lite", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"))
    for path in sorted(ROOT.rglob("*.py"))
    if "    >>> " in path.read_text(encoding="utf-8")
]
EXAMPLES = {
    f"{module.__name__}.{name}": (module, member)
    for module in MODULES
    for name, member in vars(module).items()
    if getattr(member, "__module__", "") == module.__name__ and ">>> " in (inspect.getdoc(member) or "")
}
OWN = [getattr(package, name) for package in (losses, sampling) for name in package.__all__]
CALLED = [one for one in OWN if inspect.isroutine(one) or (inspect.isclass(one) and issubclass(one, losses.Criterion))]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_runs(name):
    module, member = EXAMPLES[name]
    (example,) = doctest.DocTestFinder(recurse=False).find(inspect.unwrap(member), name, globs=dict(vars(module)))
    result = doctest.DocTestRunner().run(example)
    assert result.attempted and not result.failed


def test_no_example_is_forgotten():
    """Each text with an example belongs to a module's function or class."""
    written = sum(path.read_text(encoding="utf-8").count(">>> ") for path in ROOT.rglob("*.py"))
    found = {inspect.unwrap(member): inspect.getdoc(member).count(">>> ") for _, member in EXAMPLES.values()}
    assert sum(found.values()) == written


@pytest.mark.parametrize("one", [one for one in CALLED if one is not losses.Criterion], ids=lambda one: one.__name__)
def test_losses_and_samplers_have_an_example(one):
    assert ">>> " in inspect.getdoc(one)


@pytest.mark.parametrize("one", [*EXAMPLES], ids=str)
def test_a_chapter_that_a_docstring_names_uses_the_object(one):
    _, member = EXAMPLES[one]
    for chapter in re.findall(r"Chapter (\d\d) builds it", inspect.getdoc(member)):
        assert chapter in [stem[:2] for stem in pages.chapters_of(one)]


def test_losses_and_samplers_say_which_chapter_builds_them():
    unsaid = [one.__name__ for one in CALLED if "builds it" not in inspect.getdoc(one)]
    assert sorted(unsaid) == ["Criterion", "make_criterion", "random_proposals", "random_uniforms"]
