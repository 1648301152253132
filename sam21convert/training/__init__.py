"""One step of the official training: simulated prompts, losses, optimiser. Nothing about files."""
