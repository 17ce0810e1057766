"""Fonts for the names of classes in any script: DejaVu Sans, and those that are installed besides it."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "WenQuanYi Micro Hei",
    "Arial Unicode MS",
    "Unifont",
)
"""Families from the first to the last choice; matplotlib contains the first."""


@cache
def list_families() -> tuple[str, ...]:
    """Return the families that are installed. The first one that has a letter draws it."""
    from matplotlib import font_manager

    # matplotlib remembers the fonts of its first run, so it does not see those that were installed since.
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for file in font_manager.findSystemFonts():
        if file not in known:
            with suppress(OSError, RuntimeError):  # a damaged font is none
                font_manager.fontManager.addfont(file)
    installed = set(font_manager.get_font_names())
    return tuple(name for name in _FAMILIES if name in installed)


def find_font(text: str) -> Path:
    """Return the file of the font that has the most letters of a text."""
    files = _letters()
    return max(files, key=lambda file: len({*map(ord, text)} & files[file]))


def say_missing(texts: Iterable[str]) -> str:
    """Return that letters of some texts have no font, and what to do; empty if all have one."""
    texts = [text for text in texts if not text.isascii()]
    if not texts:
        return ""
    known = frozenset().union(*_letters().values())
    missing = sorted(
        {letter for text in texts for letter in text if letter.isprintable()} - {*map(chr, known)}
    )
    if not missing:
        return ""
    return (
        f"no installed font has the letters {''.join(missing[:12])}{'...' if len(missing) > 12 else ''} of "
        "names of classes, so plots show boxes; install one, for example Debian's fonts-noto-cjk or "
        "fonts-noto-core"
    )


@cache
def _letters() -> dict[Path, frozenset[int]]:
    """Return the letters of each font that is used."""
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    files = {Path(findfont(name)): None for name in list_families()}
    return {file: frozenset(FT2Font(str(file)).get_charmap()) for file in files}
