"""Losses of an unroll: pure functions of a trajectory."""
