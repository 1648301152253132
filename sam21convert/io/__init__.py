"""Files: the headers of every container, the bytes of tensors, pickles, and atomic outputs."""
