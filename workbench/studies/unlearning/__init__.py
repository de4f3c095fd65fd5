"""Unlearning: what is forgotten, what is kept, and whether it is gone."""
