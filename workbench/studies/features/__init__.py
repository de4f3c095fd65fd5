"""The study `features`."""
