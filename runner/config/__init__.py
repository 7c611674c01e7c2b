"""Settings and sweep files."""
