"""Read pickles as plain data, without importing or running anything that they name."""
