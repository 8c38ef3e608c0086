"""Benchmarks of speed and memory; each script has `--help`."""
