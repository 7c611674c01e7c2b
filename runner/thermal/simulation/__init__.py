"""A simulated device, and the policy against it."""
