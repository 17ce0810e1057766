import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.artifacts import Artifact
from temper.data.dataset.duplicates import CONTRADICTION, REPEATED
from temper.data.dataset.packed import held_out, open_split, read_strata
from temper.data.dataset.resize import check_bad_share
from temper.data.params import PrepareParams
from temper.data.source_params import Digits, ImageFolder, Table, Toys
from temper.problem import Row
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.segmentation import Segmentation
from tests.unit.data.chain import Run

PICS = ImageFolder(source="imagefolder", folder="pics")


def draw(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def pics(tmp_path: Path) -> Path:
    """Two classes of twelve different images of different sizes and modes."""
    for i in range(12):
        draw(tmp_path / f"pics/cat/{i:02d}.png", i, ("L", "RGB", "RGBA")[i % 3], (8 + i, 30 - i))
        draw(tmp_path / f"pics/dog/{i:02d}.png", 100 + i, "L")
    return tmp_path / "pics"


def dropped(prepare: Artifact) -> dict[str, str]:
    with (prepare.folder / "dropped.csv").open() as stream:
        return {line["id"]: line["reason"] for line in csv.DictReader(stream)}


def test_a_folder_of_mixed_images(pics: Path, run_chain: Run) -> None:
    prepare = run_chain("prepare", ingest=PICS)["prepare"]
    train = open_split(prepare, "train")
    assert train["image"].shape == (18, 12, 12, 3)
    assert train["image"].dtype == np.uint8
    assert train["label"].tolist() == [
        0 if "cat" in strata else 1 for strata in read_strata(prepare, "train")
    ]
    assert prepare.facts["examples"] == {"train": 18, "validation": 2, "test": 4}
    assert prepare.facts["counts"]["test"] == {"cat": 2, "dog": 2}
    assert prepare.facts["problem"]["classes"] == ["cat", "dog"]
    facts = prepare.facts["inputs"][0]
    pixels = train["image"].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(facts["mean"], pixels.mean(axis=0))
    np.testing.assert_allclose(facts["std"], pixels.std(axis=0))
    json.dumps(prepare.facts)


def test_grey_is_kept_only_where_every_image_is_grey(pics: Path, run_chain: Run) -> None:
    assert run_chain("prepare", ingest=PICS)["prepare"].facts["inputs"][0]["channels"] == 3
    for i in range(12):
        draw(pics / f"cat/{i:02d}.png", i, "LA")
    assert run_chain("prepare", ingest=PICS)["prepare"].facts["inputs"][0]["channels"] == 1
    wanted = PrepareParams(height_px=12, width_px=12, mode="colour")
    assert run_chain("prepare", ingest=PICS, prepare=wanted)["prepare"].facts["inputs"][0]["channels"] == 3


def test_colour_turns_grey_where_that_is_wanted(pics: Path, run_chain: Run) -> None:
    wanted = PrepareParams(height_px=10, width_px=20, mode="grey")
    prepare = run_chain("prepare", ingest=PICS, prepare=wanted)["prepare"]
    shown = {bytes(image) for image in open_split(prepare, "train")["image"]} | {
        bytes(i) for i in held_out(prepare)["image"]
    }
    assert np.asarray(Image.open(pics / "dog/00.png")).tobytes() in shown | {
        bytes(i) for i in open_split(prepare, "validation")["image"]
    }


def test_bad_images_are_listed_and_left_out(pics: Path, run_chain: Run) -> None:
    (pics / "cat/empty.jpg").touch()
    (pics / "dog/text.jpg").write_text("not an image")
    (pics / "dog/cut.png").write_bytes((pics / "dog/00.png").read_bytes()[:90])
    draw(pics / "dog/wide.png", 1, size=(30_000, 2))
    lenient = PrepareParams(height_px=12, width_px=12, max_bad_share=0.2)
    prepare = run_chain("prepare", ingest=PICS, prepare=lenient)["prepare"]
    reasons = dropped(prepare)
    assert set(reasons) == {"cat/empty.jpg", "dog/text.jpg", "dog/cut.png", "dog/wide.png"}
    assert reasons["cat/empty.jpg"] == "the file is empty (0 bytes)"
    assert reasons["dog/wide.png"].startswith("30000x2 px: one side is longer")
    assert prepare.facts["dropped"] == {"cannot be used": 4}
    report = (prepare.folder / "report.html").read_text()
    assert "dog/text.jpg" in report
    assert "data:image/png;base64," in report
    with pytest.raises(
        ValueError,
        match=r"4 of 28 images cannot be used, .*max_bad_share = 0.01: .*cat/empty.jpg: the file is",
    ):
        run_chain("prepare", ingest=PICS)


def test_a_long_list_of_bad_images_is_cut() -> None:
    rows = [Row(str(i), f"{i}.jpg") for i in range(30)]
    with pytest.raises(
        ValueError, match=r"max_bad_share = 0\.5: 0\.jpg, 1\.jpg, 2\.jpg and 22 more: bad\. .*max_bad_share"
    ):
        check_bad_share(rows, dict.fromkeys(range(25), "bad"), 0.5)
    with pytest.raises(ValueError, match=r"9\.jpg: bad 9; and 15 more reasons\."):
        check_bad_share(rows, {number: f"bad {number}" for number in range(25)}, 0.5)


def test_equal_images_never_stand_in_two_splits(pics: Path, run_chain: Run) -> None:
    (pics / "cat/99.png").write_bytes((pics / "cat/03.png").read_bytes())
    (pics / "dog/99.png").write_bytes((pics / "cat/05.png").read_bytes())
    prepare = run_chain("prepare", ingest=PICS)["prepare"]
    assert dropped(prepare) == {
        "cat/99.png": REPEATED,
        "cat/05.png": CONTRADICTION,
        "dog/99.png": CONTRADICTION,
    }


def test_a_class_that_has_only_contradicting_images_is_named(pics: Path, run_chain: Run) -> None:
    for i in range(3):
        draw(pics / f"fox/{i}.png", i)
        draw(pics / f"elk/{i}.png", i)
    with pytest.raises(
        ValueError,
        match=r"2 classes \('elk', 'fox'\) have no example among the 24 usable ones \(6 were dropped",
    ):
        run_chain("prepare", ingest=PICS)


def test_a_class_too_small_to_split_is_named(pics: Path, run_chain: Run) -> None:
    draw(pics / "fox/0.png", 1000)
    with pytest.raises(
        ValueError, match=r"class 'fox' has no example in the \w+ split .* add images or remove the class"
    ):
        run_chain("prepare", ingest=PICS)


def test_groups_stay_together(tmp_path: Path, run_chain: Run) -> None:
    lines = ["path,labels,who"]
    for i in range(60):
        draw(tmp_path / f"{i}.png", i)
        lines.append(f"{i}.png,{'ab'[i % 2]},p{i // 5}")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    prepare = run_chain("prepare", ingest=Table(source="table", file="t.csv", group="who"))["prepare"]
    import pyarrow.parquet as pq

    rows = pq.read_table(prepare.path("rows.parquet")).to_pylist()
    assert all(len({row["split"] for row in rows if row["group"] == f"p{i}"}) == 1 for i in range(12))
    assert {row["split"] for row in rows} == {"train", "validation", "test"}


def test_masks_of_a_table_and_bad_class_numbers(tmp_path: Path, run_chain: Run) -> None:
    lines = ["path,mask"]
    for i in range(30):
        draw(tmp_path / f"{i}.png", i, size=(24, 24))
        mask = np.zeros((24, 24), np.uint8)
        mask[:12, :12] = 7 if i == 4 else i % 2 + 1
        Image.fromarray(mask).save(tmp_path / f"m{i}.png")
        lines.append(f"{i}.png,m{i}.png")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    source = Table(source="table", file="t.csv", labels=None, mask="mask")
    problem = Segmentation(kind="segmentation", classes=("ground", "x", "y"))
    lenient = PrepareParams(height_px=12, width_px=12, max_bad_share=0.1)
    prepare = run_chain("prepare", ingest=source, problem=problem, prepare=lenient)["prepare"]
    assert "class number 7" in dropped(prepare)["4.png"]
    train = open_split(prepare, "train")
    assert (train["mask"][:, :6, :6] > 0).all()
    assert (train["mask"][:, 6:, 6:] == 0).all()
    assert all("ground" in strata for strata in read_strata(prepare, "train"))


@pytest.mark.parametrize(
    "problem",
    [
        Multilabel(kind="multilabel"),
        Segmentation(kind="segmentation", classes=("ground", "circle", "square", "triangle", "cross")),
    ],
    ids=lambda p: p.kind,
)
def test_other_problems_on_toys(problem: Multilabel | Segmentation, run_chain: Run) -> None:
    truth = "labels" if problem.kind == "multilabel" else "mask"
    prepare = run_chain(
        "prepare", problem=problem, ingest=Toys(source="toys", truth=truth, count=120, size_px=12)
    )["prepare"]
    assert min(min(count.values()) for count in prepare.facts["counts"].values()) > 0
    assert sum(prepare.facts["examples"].values()) == 120
    assert not [
        name for name in prepare.files if not name.endswith((".npy", ".parquet", ".csv", ".html", ".png"))
    ]


def test_the_same_seed_gives_the_same_bytes_and_rows_say_where_examples_went(run_chain: Run) -> None:
    size = PrepareParams(height_px=8, width_px=8)
    first = run_chain("prepare", ingest=Digits(source="digits"), prepare=size)
    second = run_chain("prepare", ingest=Digits(source="digits"), prepare=size)
    assert first["ingest"].digest == second["ingest"].digest
    assert first["prepare"].digest == second["prepare"].digest
    import pyarrow.parquet as pq

    raw = np.load(first["ingest"].path("images.npy"))
    packed = {name: open_split(first["prepare"], name)["image"] for name in ("train", "validation")}
    packed["test"] = held_out(first["prepare"])["image"]
    for row in pq.read_table(first["prepare"].path("rows.parquet")).to_pylist()[::50]:
        assert (packed[row["split"]][row["index"], :, :, 0] == raw[int(row["id"])]).all()


def test_a_full_disk_is_noticed_before_writing(run_chain: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    with pytest.raises(ValueError, match=r"disk space for 60 unified images: .* free, .* GB are needed"):
        run_chain("prepare")


def test_one_class_only_is_refused(run_chain: Run) -> None:
    one = Multiclass(kind="multiclass", classes=("circle",))
    with pytest.raises(ValueError, match=r"label .* is not among problem\.classes"):
        run_chain("prepare", problem=one)


def test_a_class_without_a_usable_image_is_named(pics: Path, run_chain: Run) -> None:
    (pics / "fox").mkdir()
    (pics / "fox/0.png").touch()
    lenient = PrepareParams(height_px=12, width_px=12, max_bad_share=0.1)
    with pytest.raises(
        ValueError, match=r"class 'fox' has no example among the 24 usable ones \(1 were dropped"
    ):
        run_chain("prepare", ingest=PICS, prepare=lenient)
