"""How new labelled examples come into a dataset, by the source that takes any.

The sources themselves are in `temper.data.sources`. They do not import this package, so that a change of the
inbox does not make ingest stale.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from temper.data.intake import into_files, into_folders, into_table
from temper.data.intake.coco_files import CocoFiles
from temper.data.intake.mask_files import MaskFiles
from temper.data.intake.offer import Intake, Offer
from temper.data.intake.voc_files import VocFiles
from temper.data.intake.yolo_files import YoloFiles

TAKE_IN: dict[str, Callable[[Any, Path, Offer], Intake]] = {
    "imagefolder": into_folders.take_in,
    "table": into_table.take_in,
    "coco": partial(into_files.take_in, CocoFiles),
    "masks": partial(into_files.take_in, MaskFiles),
    "voc": partial(into_files.take_in, VocFiles),
    "yolo": partial(into_files.take_in, YoloFiles),
}
"""`source` in params.yaml -> function that decides what becomes of the files in the inbox. Other sources take
none."""
