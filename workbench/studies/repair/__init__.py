"""Repair: what a low-rank adapter changes of what is said, and of what is known."""
