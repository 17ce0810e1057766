"""Check of the free disk space, made before the first byte is written."""

import shutil
from pathlib import Path

_MARGIN_BYTES = 64 << 20
"""Space that must stay free for small files."""


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Stop early if large files do not fit on the disk.

    Raises:
        ValueError: If the disk of `folder` has less free space than the needed bytes plus a margin.
    """
    free = shutil.disk_usage(folder).free
    if needed_bytes + _MARGIN_BYTES > free:
        raise ValueError(
            f"too little disk space for {what}: {folder} has {free / 1e9:.2f} GB free, "
            f"{(needed_bytes + _MARGIN_BYTES) / 1e9:.2f} GB are needed; free some, "
            "or make the images smaller (prepare.height_px, prepare.width_px)"
        )
