"""Strategies: pure plans of a run, decided from its finished periods alone."""
