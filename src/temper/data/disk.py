"""Is there room on the disk, asked before the first byte is written."""

import shutil
from pathlib import Path

_MARGIN_BYTES = 64 << 20
"""Left free for everything small that is written besides."""


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Stop early where a large file cannot fit.

    Raises:
        ValueError: If the disk under `folder` has less free than is needed and a margin.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes + _MARGIN_BYTES > free:
        raise ValueError(
            f"no room for {what}: {folder} has {free / 1e9:.2f} GB free, {(needed_bytes + _MARGIN_BYTES) / 1e9:.2f} GB "
            "are needed; free some, or make the images smaller (prepare.height_px, prepare.width_px)"
        )
