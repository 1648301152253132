"""What the package costs, and how often it is wrong: the figures of the documents."""
