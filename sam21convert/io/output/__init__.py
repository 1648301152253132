"""Write outputs atomically: the old one or the complete new one, even if a run is killed."""
