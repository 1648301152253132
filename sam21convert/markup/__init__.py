"""Pages of HTML that run no scripts and load nothing from elsewhere."""
