"""From what a user writes for a checkpoint to a file on this machine."""
