"""The study `superposition`."""
