"""Plain values and rules that every other room leans on: errors, seeds, statistics, provenance."""
