"""Contrastive activation addition on published data."""
