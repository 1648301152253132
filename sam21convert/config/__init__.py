"""Read the config of a model from any of its file formats, and write it in each of them."""
