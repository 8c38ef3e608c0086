"""Writing and reading: atomic files, locks, arrays and JSON that run no code."""
