"""What this product does on a GPU, measured in under seven minutes: see docs/gpu.md."""
