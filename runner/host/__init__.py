"""What this host has: devices, memory, versions."""
