"""A page on this machine to look at what one checkpoint finds, or two side by side."""
