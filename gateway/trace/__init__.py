"""What became of every request: recorded beside the data path, kept for a while, shown."""
