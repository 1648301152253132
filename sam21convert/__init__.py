"""Convert SAM 2 and SAM 2.1 checkpoints between every form they come in."""
