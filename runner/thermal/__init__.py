"""Temperature protection: sensors, a pure policy, and the gates that make trials rest, wait, release memory or end."""
