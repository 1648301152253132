"""What a checkpoint is, whether it loads, and whether it is safe."""
