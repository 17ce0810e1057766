"""All stages on training images that are stored encoded."""

from pathlib import Path

import pytest

from temper import artifacts
from tests.project import make_project, run_until

VIEWS = "views: {flip: true, crop_px: 1}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multiclass", "segmentation"])
def test_the_chain_on_encoded_images(tmp_path: Path, kind: str) -> None:
    project = make_project(tmp_path, kind, count=160)
    text = (project / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("test_share: 0.25}", "test_share: 0.25, keep: encoded}")
    text = text.replace(VIEWS, "views: {flip: true, crop_scale: [0.5, 1], cutmix: 1.0}")
    (project / "params.yaml").write_text(text, encoding="utf-8")
    run_until(project, "evaluate")
    prepare = artifacts.load("prepare", project / "artifacts/prepare")
    assert "encoded/images.bin" in prepare.files and "train/image.npy" not in prepare.files
    assert (project / "artifacts/quantize/quantized.onnx").is_file()
