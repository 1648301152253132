"""The same inputs through two packages, compared activation by activation."""
