"""Sweeps: a grid of runs of one study, as a document and as a folder of runs."""
