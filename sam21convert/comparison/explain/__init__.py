"""Why two results differ: tensors, settings, and what is known of a package."""
