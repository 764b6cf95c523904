"""Measurements on real machines; results are committed under `benchmarks/results`."""
