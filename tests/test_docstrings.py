"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import workbench

MODULES = [m.name for m in pkgutil.walk_packages(workbench.__path__, "workbench.")]
FINDER = doctest.DocTestFinder(exclude_empty=True)


def examples():
    for name in MODULES:
        module = importlib.import_module(name)
        yield from (t for t in FINDER.find(module, name) if t.examples)


@pytest.mark.parametrize("test", examples(), ids=lambda t: t.name)
def test_example(test):
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0


def test_there_are_examples():
    assert len(list(examples())) >= 4
