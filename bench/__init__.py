"""Benchmarks: one file a measured path. What was learnt stands in docs/explanation/performance.md."""
