"""What chains several tools."""
