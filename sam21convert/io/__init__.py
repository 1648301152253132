"""Files: headers of every container, bytes of tensors, pickles, and outputs that appear whole."""
