"""Configs as plain data; nothing here imports TensorFlow."""
