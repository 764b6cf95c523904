"""Measures this machine: our networks, and others' from a checkout, each in a process of its own."""
