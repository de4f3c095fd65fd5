"""Rows of one item that nobody named are noticed, and rows that stand alone are not."""

import warnings

import pytest
import torch

import workbench as wb


def cells(seed, together=0.0, n=120, width=24):
    g = torch.Generator().manual_seed(seed)
    x, y, u, v = torch.randn(4, n, width, generator=g)
    item = together * torch.randn(n, width, generator=g)
    return (x + item + 2 * torch.eye(width)[0], y + item), (u + 2 * torch.eye(width)[1], v)


def test_rows_of_one_item_are_noticed_and_named_ones_are_not():
    harm, safety = cells(0, together=1.0)
    with pytest.warns(UserWarning, match="row i of 'harm' and row i of 'harm baseline' go together"):
        wb.compare_directions(harm=harm, safety=safety, draws=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wb.compare_directions(harm=harm, safety=safety, paired=True, draws=0)


@pytest.mark.parametrize("seed", range(30))
def test_rows_that_stand_alone_are_left_in_peace(seed):
    harm, safety = cells(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wb.compare_directions(harm=harm, safety=safety, draws=0)
