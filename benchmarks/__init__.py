"""Benchmarks: each side by side with peers and the raw limit. Run `python -m benchmarks --help`."""
