"""What train.py and `l2o train` share, and the same for every other command."""
