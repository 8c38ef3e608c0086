"""Configs as plain data; no module here imports TensorFlow."""
