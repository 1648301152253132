"""Turn what a user writes for a checkpoint into a file on this machine."""
