"""Files and folders that operating systems, NAS devices, cloud drives and browsers leave among images.

Sources leave them out and count them.
"""

import re

_FOLDERS = frozenset(
    {
        "@eadir",  # Synology: thumbnails of every image
        "#recycle",  # Synology
        "@recycle",  # QNAP
        "@recently-snapshot",  # QNAP
        "@tmp",  # Synology
        "#snapshot",  # Synology
        "~snapshot",  # NetApp
        "recycler",  # Windows
        "network trash folder",  # AFP
        "temporary items",  # AFP
        "__macosx",  # zip files made by macOS
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "__pycache__",
        "thumbnails",
        "_thumbs",
        "thumbs",
        "_gsdata_",  # GoodSync
        "node_modules",
    }
)
_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"})
_UNFINISHED = re.compile(
    r"\.(part|partial|crdownload|download|tmp|temp|opdownload|!ut|filepart)$|~$|:Zone\.Identifier$", re.I
)
_COMPANIONS = frozenset(
    {".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".ini", ".log"}
    | {".xmp", ".aae", ".thm", ".pp3", ".dop", ".cache"}  # settings of cameras and editors, caches of tools
    | {".aria2", ".md5", ".sha1", ".sha256", ".zip", ".tar", ".gz", ".7z", ".rar", ".torrent", ".lock", ".db"}
    | {".bak", ".py", ".ipynb", ".mat", ".npz", ".parquet", ".names", ".data", ".cfg", ".ovr", ".svg"}
)
_RESCUED = re.compile(r"found\.\d{3}", re.I)
"""Folders into which Windows puts what it rescued from a damaged disk."""
_IMAGES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff"}
    | {".webp", ".avif", ".heic", ".jp2", ".pgm", ".ppm", ".mpo"}
)
_POINTERS = re.compile(r"\.(lnk|url|webloc|desktop)$", re.I)


def is_litter(name: str, *, folder: bool = False) -> bool:
    """Return whether a file or folder of this name is never an image or a class.

    Hidden names are litter: they begin with a dot, as those of macOS and of unfinished copies do.

    Example:
        >>> is_litter("Thumbs.db"), is_litter("@eaDir", folder=True), is_litter("cat.jpg.part")
        (True, True, True)
        >>> is_litter("thumbs.jpg"), is_litter("lost+found"), is_litter("desktop", folder=True)
        (False, False, False)
    """
    if name.startswith("."):
        return True
    if folder:
        return name.lower() in _FOLDERS or bool(_RESCUED.fullmatch(name))
    unfinished = _UNFINISHED.search(name) or _POINTERS.search(name) or name.startswith("~$")
    return name.lower() in _FILES or bool(unfinished)


def is_companion(name: str) -> bool:
    """Return whether a file's ending says that it holds notes, settings or labels, and no image.

    Example:
        >>> is_companion("IMG_1.xmp"), is_companion("cat.JSON"), is_companion("cat.json.png")
        (True, True, False)
    """
    return _ending(name) in _COMPANIONS


def is_image(name: str) -> bool:
    """Return whether a file's ending is one of an image.

    Example:
        >>> is_image("a.JPG"), is_image("a.txt"), is_image("jpg")
        (True, False, False)
    """
    return _ending(name) in _IMAGES


def _ending(name: str) -> str:
    """Return the ending of a name in small letters, with its dot."""
    _, dot, ending = name.rpartition(".")
    return f"{dot}{ending.lower()}"
