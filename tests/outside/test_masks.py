"""Masks as people have them: with 0 and 255, of turned photographs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper import artifacts
from tests.outside.files import image, set_lines
from tests.project import make_project, run_until


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Images with masks of 0 and 255, the commonest export."""
    project = make_project(tmp_path / "project", "segmentation")
    source = "{source: table, file: t.csv, labels: null, mask: mask}"
    set_lines(project, ingest=source, problem="{kind: segmentation, classes: [background, cell]}")
    for number in range(40):
        image(project / f"{number}.png", number, side=16)
        mask = np.zeros((16, 16), np.uint8)
        mask[: 4 + number % 5, :6] = 255
        Image.fromarray(mask).save(project / f"mask-{number}.png")
    lines = "".join(f"{number}.png,mask-{number}.png\n" for number in range(40))
    (project / "t.csv").write_text(f"path,mask\n{lines}")
    return project


def test_masks_of_0_and_255_are_explained_and_can_be_named(project: Path):
    with pytest.raises(
        ValueError, match=r"'cell' has no example .*are 255, .*prepare.mask_values: \{255: 1\}"
    ):
        run_until(project, "prepare")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {mask_values: {255: 1}, "))
    run_until(project, "prepare")
    counts = artifacts.load("prepare", project / "artifacts" / "prepare").facts["counts"]
    assert counts["train"]["cell"] > 10


def test_ignored_pixels_are_in_the_report(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(40):
        mask = np.array(Image.open(project / f"mask-{number}.png"))
        mask[8:12, 8:12] = 1
        Image.fromarray(mask).save(project / f"mask-{number}.png")
    run_until(project, "prepare")
    assert "prepare: left out: 14.1% of the pixels of the masks are 255" in capsys.readouterr().err
    assert "of the masks are 255" in (project / "artifacts" / "prepare" / "report.html").read_text()


def test_masks_of_turned_photographs_overlap_and_are_said(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 60, (12, 16, 3), np.uint8)
        mask = np.zeros((12, 16), np.uint8)
        mask[:5, :7] = 1
        pixels[:5, :7] += 150
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(project / f"{number}.png", exif=exif)
        Image.fromarray(mask).save(project / f"mask-{number}.png")
    run_until(project, "prepare")
    assert "prepare: converted: 40 images with masks are turned by EXIF" in capsys.readouterr().err
    prepare = project / "artifacts" / "prepare" / "train"
    images, masks = (np.load(prepare / f"{name}.npy") for name in ("image", "mask"))
    assert images[masks == 1].mean() > images[masks == 0].mean() + 100
