"""Fine-tune: train on masks of pictures or videos, prove what came of it, and write it anywhere."""
