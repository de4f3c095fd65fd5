"""Alignment faking: a model that goes along with a harm claim only where it is told that it is watched."""
