"""Pushing back along the stance, and its price."""
