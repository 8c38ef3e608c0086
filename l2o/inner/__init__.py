"""The inner loop: an update rule unrolled on optimizees, for training and evaluation alike."""
