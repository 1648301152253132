"""What loading a file with pickle would import and call: found without loading it, and rated."""
