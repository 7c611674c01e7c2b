"""The kernel's hardware monitors of a process that has a /sys of its own, written by the test."""

from pathlib import Path

# For a shell in a mount namespace of its own: `sh -c MONITORED FOLDER COMMAND...`
MONITORED = 'mount -t tmpfs none /sys/class && ln -s "$0" /sys/class/hwmon && exec "$@"'


def heat(folder: Path, celsius: float) -> None:
    """What the CPU's sensor reads from now on."""
    chip = folder / "hwmon0"
    chip.mkdir(parents=True, exist_ok=True)
    (chip / "name").write_text("coretemp\n")
    aside = chip / "aside"
    aside.write_text(f"{celsius * 1000:.0f}\n")
    aside.rename(chip / "temp1_input")
