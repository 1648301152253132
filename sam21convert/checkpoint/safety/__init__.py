"""What loading a file with pickle would run."""
