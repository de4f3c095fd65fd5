"""Weak labels teach a stronger model: what is recovered of the gap, and which errors are passed on."""
