"""What the benchmarks compare with: the same work, written as one would without this project."""
