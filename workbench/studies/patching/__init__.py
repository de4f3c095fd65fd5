"""Patching: where a claim overrides the truth."""
