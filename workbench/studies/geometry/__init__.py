"""Harm and safety: opposite, orthogonal or something else."""
