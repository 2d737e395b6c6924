"""Longer measurements, run by hand: see tests/RELIABILITY.md and space/BENCHMARKS.md."""
