"""What a report says: computed from the run directory."""
