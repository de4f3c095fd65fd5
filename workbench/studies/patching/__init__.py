"""Patching: where a claim acts."""
