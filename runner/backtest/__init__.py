"""What positions by a stated rule would have earned on the test split; no promise of what any will earn."""
