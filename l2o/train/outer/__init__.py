"""The outer loop: optimizees over time, and the meta-step."""
