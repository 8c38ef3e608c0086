"""What shares the optimizees of a meta-step: devices and processes."""
