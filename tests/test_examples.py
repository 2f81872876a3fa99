"""What a user calls of the losses and the samplers has an example in its docstring, and it runs."""

import doctest
import inspect
import sys

import pytest

from emc2_lite import losses, sampling

OWN = [getattr(package, name) for package in (losses, sampling) for name in package.__all__]
CALLED = [one for one in OWN if inspect.isroutine(one) or (inspect.isclass(one) and issubclass(one, losses.Criterion))]
WITHOUT = (losses.Criterion,)  # a base class


@pytest.mark.parametrize("one", [one for one in CALLED if one not in WITHOUT], ids=lambda one: one.__name__)
def test_there_is_an_example_and_it_runs(one):
    names = dict(vars(sys.modules[one.__module__]))
    (example,) = doctest.DocTestFinder(recurse=False).find(inspect.unwrap(one), one.__name__, globs=names)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted and not result.failed
