"""Clips in the inbox are taken into tables and class folders as images are; damaged ones are put aside."""

from pathlib import Path

import numpy as np
from PIL import Image

from temper.ops.project import Project
from tests.outside.files import set_lines
from tests.unit.data.test_clips import film, folder_project, save
from tests.unit.ops.test_table_inbox import drop, settle, table_project, take


def test_rows_of_clips_are_taken(tmp_path: Path):
    table = "path,words,labels\n0.png,big,cat\n1.png,small,dog\n"
    project = table_project(tmp_path, "clip", table, text="words")
    set_lines(project.folder, problem="{kind: multiclass, inputs: [clip, text]}", evaluate="{families: []}")
    labelled = drop(project, "path,words,labels\na.png,small,cat\nb.png,large,cat\nc.png,big,dog\n").parent
    frames = [Image.fromarray(np.full((8, 8), 40 * each, np.uint8)) for each in range(5)]
    (labelled / "a.png").write_bytes(save(frames, "PNG"))
    (labelled / "b.png").write_bytes(save(frames, "PNG")[:-60])
    settle(project)
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2}
    assert len(taken.unusable) == 1 and "b.png" in taken.unusable[0] and "damaged" in taken.unusable[0]


def test_files_of_clips_are_taken(tmp_path: Path):
    project = Project.at(folder_project(tmp_path))
    labelled = project.folder / "inbox" / "labelled" / "rising"
    labelled.mkdir(parents=True)
    (labelled / "new.gif").write_bytes(save(film(7, seed=77), "GIF"))
    (labelled / "cut.webp").write_bytes(save(film(7, seed=78), "WEBP")[:-50])
    (labelled / "old.gif").write_bytes((project.folder / "clips" / "rising" / "0.gif").read_bytes())
    settle(project)
    taken = take(project)
    assert taken.moved == {"rising": 1} and taken.known == 1
    assert len(taken.unusable) == 1 and "cut.webp" in taken.unusable[0]
