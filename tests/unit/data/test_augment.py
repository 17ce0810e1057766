import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from temper.data.augmentation.albumentations_policy import build
from temper.data.augmentation.materialize import Draw, materialize, seed_of
from temper.data.augmentation.params import AugmentParams, BalanceParams
from temper.data.dataset.packed import open_split, open_training
from temper.data.source_params import Toys
from temper.fields import Field
from temper.problems.segmentation import Segmentation
from tests.unit.data.chain import Run

SHAPES = ("ground", "circle", "square", "triangle", "cross")
TURN = ({"name": "Rotate", "limit": [-40, 40], "p": 1.0}, {"name": "RandomBrightnessContrast", "p": 1.0})


def test_without_anything_training_is_the_split_as_it_is(
    run_chain: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run_chain()
    columns, repeats, weights = open_training(made["prepare"], made["augment"])
    assert (columns["image"] == open_split(made["prepare"], "train")["image"]).all()
    assert repeats.tolist() == [1] * len(columns["image"])
    assert weights.tolist() == [1] * len(columns["image"])
    assert made["augment"].facts["emphasis"] == {"offsets": [], "costs": []}
    assert set(made["augment"].files) == {"rows.parquet"}
    assert "drawn per epoch" in capsys.readouterr().err


def test_copies_stand_behind_their_originals(run_chain: Run) -> None:
    params = AugmentParams(copies=2, policy=TURN, balance=BalanceParams(method="weights"))
    made = run_chain(augment=params)
    train = open_split(made["prepare"], "train")
    columns, repeats, weights = open_training(made["prepare"], made["augment"])
    count = len(train["image"])
    assert len(columns["image"]) == len(repeats) == len(weights) == 3 * count
    assert (columns["label"] == np.tile(train["label"], 3)).all()
    assert (columns["image"][:count] == train["image"]).all()
    assert (columns["image"][count : 2 * count] != train["image"]).any(axis=(1, 2, 3)).all()
    assert weights.mean() == pytest.approx(1)
    table = pq.read_table(made["augment"].path("rows.parquet")).to_pydict()
    assert table["index"] == list(range(3 * count))
    assert table["copy"] == [0] * count + [1] * count + [2] * count
    assert table["seed"][0] is None
    assert table["seed"][count] == seed_of(1, table["id"][0], 1)
    after = made["augment"].facts["counts"]["after"]
    assert after == {name: 3 * number for name, number in made["augment"].facts["counts"]["before"].items()}
    assert "sheet.png" in made["augment"].files


def test_examples_that_are_not_drawn_get_no_copies(run_chain: Run) -> None:
    params = AugmentParams(copies=1, policy=TURN, balance=BalanceParams(method="undersample"))
    made = run_chain(augment=params, ingest=Toys(source="toys", count=61, size_px=12))
    columns, repeats, _ = open_training(made["prepare"], made["augment"])
    count = len(open_split(made["prepare"], "train")["image"])
    assert len(columns["image"]) == count + repeats[:count].sum()
    assert len(set(made["augment"].facts["counts"]["after"].values())) == 1


def test_masks_move_with_their_images(run_chain: Run) -> None:
    policy = ({"name": "HorizontalFlip", "p": 1.0},)
    made = run_chain(
        problem=Segmentation(kind="segmentation", classes=SHAPES),
        ingest=Toys(source="toys", truth="mask", count=80, size_px=12, channels=1),
        augment=AugmentParams(copies=1, policy=policy),
    )
    columns, _, _ = open_training(made["prepare"], made["augment"])
    count = len(columns["image"]) // 2
    assert (columns["image"][count:] == columns["image"][:count, :, ::-1]).all()
    assert (columns["mask"][count:] == columns["mask"][:count, :, ::-1]).all()


def pack(folder: Path, **columns: np.ndarray) -> Path:
    folder.mkdir()
    for name, column in columns.items():
        np.save(folder / f"{name}.npy", column)
    return folder


def test_the_images_are_the_same_whatever_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("temper.data.augmentation.materialize._WORTH_A_WORKER", 100)
    image = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), np.uint8)
    source = pack(tmp_path / "train", image=image, label=np.arange(40))
    draws = [Draw(i % 40, seed_of(1, str(i), i)) for i in range(300)]
    for workers in (1, 2):
        given = {"policy": TURN, "truth": dict[str, Field](), "draws": draws, "workers": workers}
        materialize(source, tmp_path / f"copies{workers}", **given, picture="image")
    one, two = (np.load(tmp_path / f"copies{workers}/image.npy") for workers in (1, 2))
    assert (one == two).all()
    reverse = {"policy": TURN, "truth": dict[str, Field](), "draws": draws[::-1], "workers": 1}
    materialize(source, tmp_path / "reverse", **reverse, picture="image")
    assert (np.load(tmp_path / "reverse/image.npy") == one[::-1]).all()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (
            ({"name": "RandomCrop", "height": 5, "width": 5},),
            r"augment\.policy turns image .* into \(5, 5, 1\), .*keep their size; .*Resize",
        ),
        (
            ({"name": "Normalize", "mean": 0.5, "std": 0.5},),
            r"augment\.policy turns image .* into float32; .*Normalize",
        ),
        (({"name": "ISONoise", "p": 1.0},), r"augment\.policy fails .*shape 12x12x1"),
    ],
)
def test_policies_that_do_not_fit_the_images(
    tmp_path: Path, policy: tuple[dict[str, object], ...], message: str
) -> None:
    source = pack(tmp_path / "train", image=np.zeros((1, 12, 12, 1), np.uint8))
    with pytest.raises(ValueError, match=message):
        materialize(
            source,
            tmp_path / "copies",
            policy=policy,
            truth={},
            draws=[Draw(0, 1)],
            workers=1,
            picture="image",
        )


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (
            {"name": "HorisontalFlip"},
            r"'HorisontalFlip' is not a transform .*'HorizontalFlip'",
        ),
        ({"p": 0.5}, "names no transform"),
        ({"name": "Rotate", "limits": 5}, "Rotate has no argument 'limits'; the nearest is 'limit'"),
        ({"name": "Rotate", "p": 3}, "Rotate refuses its arguments: .*less than or equal to 1"),
        (
            {"name": "OneOf", "transforms": [{"name": "Flipp"}]},
            r"policy\[0\]\.transforms\[0\]: 'Flipp' is not a transform",
        ),
        ({"name": "OneOf", "transforms": "Rotate"}, "expected a list of transforms"),
        ({"name": "Crop"}, None),
    ],
)
def test_a_policy_is_checked_when_it_is_parsed(step: dict[str, object], message: str | None) -> None:
    if message is None:
        assert len(build([step])) == 1
        return
    with pytest.raises(ValueError, match=message):
        build([step])


def test_params_refuse_bad_policies_and_copies_without_one() -> None:
    from pydantic import TypeAdapter

    parse = TypeAdapter(AugmentParams).validate_json
    with pytest.raises(ValueError, match="the nearest is 'Rotate'"):
        parse('{"policy": [{"name": "Rotat"}]}')
    with pytest.raises(ValueError, match="copies = 2, but the policy is empty"):
        parse('{"copies": 2}')


def test_the_stages_and_a_policy_never_import_torch() -> None:
    code = (
        "import sys; import temper.stages.ingest, temper.stages.prepare, temper.stages.augment;"
        "from temper.data.augmentation.albumentations_policy import build; build([{'name': 'Rotate'}]);"
        "unwanted = ('torch', 'timm', 'torchvision', 'matplotlib', 'sklearn');"
        "sys.exit(any(name in sys.modules for name in unwanted))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
