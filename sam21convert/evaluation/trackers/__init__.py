"""What tracks the objects of a data set: this package's model, or one of another package."""
