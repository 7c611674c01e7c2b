"""The HTML report in a real browser: no console errors, no sideways scrolling, light and dark."""

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runner.paths import RunPaths
from runner.report import Report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
)  # fmt: skip
DARK = "--blink-settings=preferredColorScheme=0"
LIGHT = "--blink-settings=preferredColorScheme=1"

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine: install chromium to run this")


def browse(document: Path, profile: Path, *options: str) -> tuple[str, str]:
    """Standard output of the browser, and what the page wrote to the console."""
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *options, document.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.parametrize(("scheme", "light"), [(LIGHT, True), (DARK, False)])
def test_it_opens_from_a_file_without_console_errors(
    hard: tuple[RunPaths, Report], tmp_path: Path, scheme: str, light: bool
) -> None:
    picture = tmp_path / "page.png"
    _, console = browse(hard[1].html, tmp_path / "p", scheme, "--window-size=1280,1400", f"--screenshot={picture}")
    assert console == ""
    seen = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("L"))
    assert (np.median(seen) > 200) == light  # the paper
    assert seen.std() > 10  # something stands on it


@pytest.mark.parametrize("width_px", [390, 1280])
def test_figures_load_and_only_tables_and_figures_scroll_sideways(
    hard: tuple[RunPaths, Report], tmp_path: Path, width_px: int
) -> None:
    """Measured in a copy whose policy lets one script in, inside a frame, as a browser's window has a least width."""
    probe = (
        "<script>addEventListener('load', () => { const images = [...document.images];"
        "parent.postMessage([document.documentElement.scrollWidth, innerWidth, images.length,"
        "images.filter(i => i.complete && i.naturalWidth > 500).length].join(), '*'); })</script></body>"
    )
    source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", hard[1].html.read_text(encoding="utf-8"))
    (tmp_path / "copy.html").write_text(source.replace("</body>", probe), encoding="utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<title></title><script>addEventListener('message', event => { document.title = event.data; })</script>"
        f'<iframe src="copy.html" width="{width_px}" height="900" style="border: 0"></iframe>'
    )
    dom, _ = browse(frame, tmp_path / "p", "--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom")
    scroll, inner, images, loaded = map(int, re.search(r"<title>(\d+),(\d+),(\d+),(\d+)<", dom).groups())
    assert inner == width_px
    assert scroll <= inner
    assert images == loaded == 3
