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


def test_an_example_that_fails_is_seen():
    broken = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "broken", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(broken, out=lambda _: None).failed == 1
