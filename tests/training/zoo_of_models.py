"""Tiny random models for the tests of training, one of each kind of architecture, made once."""

import sys
from functools import cache
from pathlib import Path

import workbench as wb
from workbench.models.load import wrap

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from zoo import hugging_face


@cache
def bundled():
    return wb.load_model("bundled", device="cpu")


@cache
def tiny(name):
    tokenizer = bundled().tokenizer
    return wrap(hugging_face(name, len(tokenizer)), tokenizer, name=name, bos=0)
