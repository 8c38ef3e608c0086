"""Programs for comparison: the same work, written without this project."""
