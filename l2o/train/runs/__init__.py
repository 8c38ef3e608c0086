"""A run on disk: its files, which process writes them, and what they may go on with."""
