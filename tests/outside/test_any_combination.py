"""Random combinations of situations: the right rows, or an error or a remark that names the file.

`TEMPER_FUZZ=5000` tries more of them.
"""

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from temper.data.sources.listing import Listing
from temper.problems.classes import bind_classes
from tests.outside.annotation_files import COCO, GOOD, YOLO, list_coco, list_yolo, write_coco, write_yolo
from tests.outside.files import ADDED, LEFT_OUT, LOOK_ALIKES, class_folders, list_folder, list_table
from tests.unit.data.annotated import boxes

FUZZ = settings(
    max_examples=int(os.environ.get("TEMPER_FUZZ", "200")),
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
SPLITS = st.lists(
    st.sampled_from(["train", "Training", "val", "Valid", "test", "TEST", "extra", "dev"]),
    unique=True,
    max_size=4,
)


def names_one_of(error: ValueError, *names: str) -> None:
    assert any(name in str(error) for name in names), error


def temporary() -> Path:
    return Path(tempfile.mkdtemp(prefix="temper-fuzz-"))


@FUZZ
@given(
    SPLITS,
    st.sets(st.sampled_from(sorted(LEFT_OUT))),
    st.sets(st.sampled_from(sorted(ADDED))),
    st.sets(st.sampled_from(sorted(LOOK_ALIKES))),
)
def test_folders(splits: list[str], left_out: set[str], added: set[str], alike: set[str]):
    project = temporary()
    try:
        root = project / "images"
        roots = [root / name for name in splits] or [root]
        for place in roots:
            class_folders(place)
        first = roots[0]
        for what in sorted(left_out):
            LEFT_OUT[what][0](first)
        for what in sorted(added):
            ADDED[what][0](first)
        for what in sorted(alike):
            LOOK_ALIKES[what][0](first)
        try:
            listing = list_folder(project)
            bind_classes((), listing.rows)
        except ValueError as error:
            names_one_of(error, str(root), "classes differ only in", *splits)
            return
        count = 6 * len(roots) + sum(ADDED[what][1] for what in added)
        count += 6 * ("two forms of Unicode" in alike)
        assert len(listing.rows) == count
        labels = {label for row in listing.rows for label in row.labels}
        assert labels <= {"cat", "dog", "owl", "Café"}, "a folder became a class in silence"
        assert ({row.split for row in listing.rows} != {None}) == bool(splits)
        told = {name for remark in listing.remarks for name in remark.names}
        for what in left_out:
            assert any(LEFT_OUT[what][1] in name for name in told), f"{what} is not told"
        assert all(listing.find(name).is_file() for name in listing.names)
    finally:
        shutil.rmtree(project)


CELL = st.one_of(
    st.sampled_from(
        ["cat", "dog", "Cat", "cat|dog", "cat;dog", "cat, dog", "", " ", '"', "a\tb", "$1", "é", "\x00"]
    ),
    st.text(max_size=6),
)


@FUZZ
@given(
    st.sampled_from([",", ";", "\t", "|"]),
    st.lists(st.tuples(st.integers(0, 6), CELL), min_size=1, max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_tables(separator: str, lines: list[tuple[int, str]], end: str, encoding: str):
    project = temporary()
    try:
        rows = [f"{number}.png{separator}{cell}" for number, cell in lines]
        text = end.join([f"path{separator}labels", *rows]) + end
        content = text.encode(encoding, errors="surrogatepass")
        try:
            listing = list_table(project, content)
        except ValueError as error:
            names_one_of(error, "t.csv")
            return
        assert len(listing.rows) <= len(lines)
        for row, (number, cell) in zip(listing.rows, lines, strict=False):
            if len(listing.rows) == len(lines):
                assert row.id == f"{number}.png"
            assert all(label.strip() == label and label for label in row.labels)
            if cell in ("cat", "dog"):
                assert row.labels == (cell,) or len(listing.rows) < len(lines)
    finally:
        shutil.rmtree(project)


@FUZZ
@given(st.sets(st.sampled_from(sorted(COCO))))
def test_annotations_in_json(situations: set[str]):
    project = temporary()
    try:
        content = write_coco(project)
        for what in sorted(situations):
            COCO[what][0](project, content)
        _check_told(list_coco(project, content), [COCO[what][1] for what in situations])
    finally:
        shutil.rmtree(project)


@FUZZ
@given(st.sets(st.sampled_from(sorted(YOLO))))
def test_annotations_in_text_files(situations: set[str]):
    project = temporary()
    try:
        write_yolo(project)
        for what in sorted(situations):
            YOLO[what][0](project)
        _check_told(list_yolo(project), [YOLO[what][1] for what in situations])
    finally:
        shutil.rmtree(project)


def _check_told(listing: Listing, names: list[str]) -> None:
    """Check that good boxes are there as they were, and that all names are told."""
    found = boxes(listing)
    for number, name in enumerate(GOOD):
        each = next(found[key] for key in found if key.endswith(name))
        assert each[0]["label"] == ("cat", "dog")[number % 2], name
    told = [name for remark in listing.remarks for name in remark.names]
    for name in names:
        assert not name or any(name in each for each in told), f"{name} is not told"
