"""Pages of HTML that load nothing from elsewhere, and what their scripts share."""
