"""How people call masks and images: their folders, and what they add to the names of files."""

import re

IMAGE_FOLDERS = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "photos", "trainimages", "imagestr", "imgdir"}
    | {"input", "inputs", "original", "originals", "rgb"}
)
TRUTH_FOLDERS = frozenset(
    {"annotations", "annotation", "annotationmasks", "labels", "labelmaps", "groundtruth", "gt"}
    | {"masks", "mask", "trainmasks", "segmentationclass", "segmentationobject", "boxes", "bboxes", "seg"}
    | {"label", "labelstr", "anndir", "target", "targets", "maskpng", "segmentationclasspng"}
)
"""Names of folders, small letters only, that hold the images of a dataset and what is true of them."""
_ENDING = re.compile(r"(.+)[ _-](mask|masks|seg|segmentation|gt|label|groundtruth|annotation)(_\d+)?", re.I)
_ROLE = re.compile(
    r"[ _-]*(masks?|seg|segmentation|gt|labels?|ground ?truth|annotations?|images?|img?)[ _-]*", re.IGNORECASE
)
"""What names of masks and images have beside what they have in common."""


_BEGINNING = re.compile(r"(mask|masks|seg|segmentation|gt|label|groundtruth|annotation)[ _-].+", re.I)


def is_mask_name(stem: str) -> bool:
    """Return whether a file is called like a mask.

    Example:
        >>> is_mask_name("cat_mask"), is_mask_name("label-7"), is_mask_name("mask"), is_mask_name("cat")
        (True, True, True, False)
    """
    return bool(_ENDING.fullmatch(stem) or _BEGINNING.fullmatch(stem)) or plain(stem) in TRUTH_FOLDERS


def image_of(stem: str) -> str | None:
    """Return the name of the image whose mask a file is called like; None if it is not called like a mask.

    Example:
        >>> image_of("cat_mask"), image_of("cat-seg_2"), image_of("cat")
        ('cat', 'cat', None)
    """
    found = _ENDING.fullmatch(stem)
    return found[1] if found else None


def bare_name(stem: str) -> str:
    """Return what the names of an image and its mask have in common, in small letters.

    Example:
        >>> bare_name("img_001"), bare_name("001_Mask"), bare_name("label-001")
        ('001', '001', '001')
    """
    return _ROLE.sub("", stem.lower())


def plain(name: str) -> str:
    """Return the letters and digits of a name, in small letters."""
    return re.sub(r"[\W_]+", "", name.lower())
