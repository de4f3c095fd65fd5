"""What can be read of the truth, and where: the study to use in sweeps."""
