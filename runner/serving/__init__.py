"""A trial's model in use: predictions for new bars, their evaluation, and a folder that needs torch alone."""
