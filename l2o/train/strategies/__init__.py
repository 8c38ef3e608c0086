"""Strategies: plans of a run, each from the finished periods alone."""
