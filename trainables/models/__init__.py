"""Models that return logits, how many parameters they have, and the shapes that meet a parameter budget."""
