"""Units that many modules count in."""

GIB = 2**30
"""Bytes."""
