"""Many conversions into one folder, recorded as they begin and end."""
