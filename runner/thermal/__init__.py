"""Temperature protection: sensors, a pure policy, and the gates that make trials rest, wait, release memory or end."""

TEMPERATURE = "temperature"  # what ends a sweep whose devices are all stopped
