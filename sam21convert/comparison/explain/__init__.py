"""Why two results differ: tensors, settings, and known differences of a package."""
