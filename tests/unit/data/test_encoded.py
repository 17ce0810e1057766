import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.artifacts import Artifact
from temper.data.augmentation.params import AugmentParams
from temper.data.dataset.packed import (
    held_out,
    open_encoded,
    open_inputs,
    open_split,
    open_training,
    read_rows_of,
    read_table,
)
from temper.data.images.decoding import Undecodable, decode, decode_part, mirror, stretch
from temper.data.images.reading import open_plain
from temper.data.params import PrepareParams
from temper.data.source_params import ImageFolder, Toys
from tests.unit.data.chain import Run

PICS = ImageFolder(source="imagefolder", folder="pics")


def image(seed: int, size: tuple[int, int]) -> Image.Image:
    """Return an image with structure: a few waves."""
    across, down = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 6, size[1]))
    phases = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    waves = [np.sin(across + first) * np.cos(down * 0.7 + second) for first, second in phases]
    return Image.fromarray((127 + 120 * np.stack(waves, axis=2)).astype(np.uint8))


@pytest.fixture
def pics(tmp_path: Path) -> Path:
    """Write two classes of images of many sizes, formats and modes."""
    for number in range(12):
        size = (18 + 3 * number, 40 - 2 * number)
        for folder, seed in (("cat", number), ("dog", 100 + number)):
            path = tmp_path / "pics" / folder
            path.mkdir(parents=True, exist_ok=True)
            made = image(seed, size)
            exif = Image.Exif()
            exif[0x0112] = 6
            match number % 6:
                case 0:
                    made.save(path / f"{number:02d}.jpg", quality=90)
                case 1:
                    made.save(path / f"{number:02d}.png")
                case 2:
                    made.convert("L").save(path / f"{number:02d}.jpg", exif=exif)
                case 3:
                    made.convert("RGBA").save(path / f"{number:02d}.png")
                case 4:
                    made.convert("CMYK").save(path / f"{number:02d}.jpg")
                case 5:
                    made.quantize(16).save(path / f"{number:02d}.gif")
    (tmp_path / "pics/cat/broken.jpg").write_bytes((tmp_path / "pics/cat/00.jpg").read_bytes()[:300])
    (tmp_path / "pics/dog/twin.png").write_bytes((tmp_path / "pics/dog/01.png").read_bytes())
    return tmp_path / "pics"


def both(run_chain: Run, pixels: PrepareParams, encoded: PrepareParams) -> tuple[Artifact, Artifact]:
    return tuple(  # type: ignore[return-value]
        run_chain("prepare", ingest=PICS, prepare=params)["prepare"] for params in (pixels, encoded)
    )


@pytest.mark.parametrize("mode", ["auto", "grey"])
def test_everything_but_the_training_images_is_as_with_pixels(pics: Path, run_chain: Run, mode: str) -> None:
    settings = {"validation_share": 0.2, "max_bad_share": 0.1, "mode": mode}
    pixels, encoded = both(
        run_chain,
        PrepareParams(height_px=12, width_px=16, **settings),  # type: ignore[arg-type]
        PrepareParams(height_px=12, width_px=16, keep="encoded", **settings),  # type: ignore[arg-type]
    )
    assert read_table(pixels.path("rows.parquet")) == read_table(encoded.path("rows.parquet"))
    for name in ("examples", "counts", "dropped"):
        assert pixels.facts[name] == encoded.facts[name]
    assert sum(pixels.facts["dropped"].values()) == 2
    for name in ("mean", "std"):
        np.testing.assert_allclose(
            pixels.facts["inputs"][0][name], encoded.facts["inputs"][0][name], rtol=1e-12
        )
    validation = [open_split(prepare, "validation") for prepare in (pixels, encoded)]
    for one, other in (validation, (held_out(pixels), held_out(encoded))):
        assert one.keys() == other.keys()
        assert all((one[key] == other[key]).all() for key in one)
    assert (open_split(pixels, "train")["label"] == open_split(encoded, "train")["label"]).all()
    assert open_encoded(pixels) is None and "image" not in open_split(encoded, "train")


def test_training_images_keep_their_bytes_where_training_reads_them_alike(pics: Path, run_chain: Run) -> None:
    params = PrepareParams(height_px=12, width_px=16, keep="encoded", max_bad_share=0.1)
    prepare = run_chain("prepare", ingest=PICS, prepare=params)["prepare"]
    kept, names = open_encoded(prepare), read_rows_of(prepare, "train", ["id"])["id"]
    assert kept is not None and len(kept) == len(names) == prepare.facts["examples"]["train"]
    plain = 0
    for number, name in enumerate(names):
        given = (pics / name).read_bytes()
        expected = np.asarray(open_plain(given, max_pixels=10**6, max_side_px=1000).convert("RGB"))
        assert kept.sizes[number].tolist() == list(expected.shape[:2])
        assert (decode(kept.read(number), 3) == expected).all()
        if int(Path(name).stem) % 6 in (0, 1):
            assert kept.read(number) == given
            plain += 1
        if int(Path(name).stem) % 6 in (2, 4):
            assert kept.read(number)[1:4] == b"PNG", "rotated by EXIF, or CMYK"
    assert plain >= 4


def test_whole_training_images_look_like_the_unified_ones(pics: Path, run_chain: Run) -> None:
    settings = {"max_bad_share": 0.1}
    pixels, encoded = both(
        run_chain,
        PrepareParams(height_px=12, width_px=16, **settings),  # type: ignore[arg-type]
        PrepareParams(height_px=12, width_px=16, keep="encoded", **settings),  # type: ignore[arg-type]
    )
    expected, found = open_inputs(pixels)["image"], open_inputs(encoded)["image"]
    numbers = np.arange(len(expected))
    difference = np.abs(found[numbers].astype(int) - np.asarray(expected[numbers]))
    assert found[numbers].shape == expected.shape
    assert difference.mean() < 4, "the two antialiasing filters differ slightly"


def test_large_images_are_shrunk_once(pics: Path, run_chain: Run) -> None:
    params = PrepareParams(height_px=12, width_px=16, keep="encoded", shrink_px=30, max_bad_share=0.1)
    kept = open_encoded(run_chain("prepare", ingest=PICS, prepare=params)["prepare"])
    assert kept is not None
    assert kept.sizes.max() == 30 and kept.sizes.min() < 30
    for number in range(len(kept)):
        assert decode(kept.read(number), 3).shape[:2] == tuple(kept.sizes[number])
    with pytest.raises(ValueError, match=r"shrink_px = 100, .*prepare\.keep to encoded or shrink_px to 0"):
        PrepareParams(height_px=8, width_px=8, shrink_px=100)


def test_arrays_become_png(run_chain: Run) -> None:
    made = run_chain(prepare=PrepareParams(height_px=12, width_px=12, keep="encoded"))
    kept = open_encoded(made["prepare"])
    plain = run_chain(prepare=PrepareParams(height_px=12, width_px=12))
    assert kept is not None
    assert (kept[np.arange(len(kept))] == open_split(plain["prepare"], "train")["image"]).all()
    columns, repeats, _ = open_training(made["prepare"], made["augment"])
    assert set(columns) == {"label"} and len(repeats) == len(kept)


def test_copies_made_before_training_need_pixels(run_chain: Run) -> None:
    with pytest.raises(ValueError, match=r"name the transforms in train\.views\.policy"):
        run_chain(
            ingest=Toys(source="toys", count=60, size_px=12),
            prepare=PrepareParams(height_px=12, width_px=12, keep="encoded"),
            augment=AugmentParams(copies=1, policy=({"name": "HorizontalFlip"},)),
        )


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_decoding_is_pillows_to_the_bit(kind: str, mode: str) -> None:
    target = io.BytesIO()
    made = image(3, (61, 47)).convert(mode)
    made.save(target, kind)
    expected = np.asarray(Image.open(io.BytesIO(target.getvalue())).convert("RGB"))
    assert (decode(target.getvalue(), 3) == expected).all()
    grey = np.asarray(Image.open(io.BytesIO(target.getvalue())).convert("L"))
    assert np.abs(decode(target.getvalue(), 1)[..., 0].astype(int) - grey).max() <= (
        0 if mode == "L" or kind == "PNG" else 1
    )


def test_scaled_decoding_looks_like_shrinking() -> None:
    target = io.BytesIO()
    image(5, (400, 301)).save(target, "JPEG", quality=95)
    size, shape = (301, 400), {"height_px": 32, "width_px": 32, "channels": 3}
    for box, least in (((0, 0, 301, 400), 8), ((10, 20, 200, 140), 4), ((3, 5, 70, 66), 2)):
        top, left, height, width = box
        assert min(height, width) >= least * 32
        crop = Image.open(io.BytesIO(target.getvalue())).crop((left, top, left + width, top + height))
        expected = np.asarray(crop.resize((32, 32), Image.Resampling.BOX)).astype(int)
        found = decode_part(target.getvalue(), size, box, **shape)  # type: ignore[arg-type]
        assert found.shape == (32, 32, 3) and np.abs(found - expected).mean() < 3


def test_what_cannot_be_decoded_says_so() -> None:
    for content in (b"no image at all", bytes(100), b"\xff\xd8"):
        with pytest.raises(Undecodable):
            decode(content, 3)
    target = io.BytesIO()
    image(1, (20, 10)).save(target, "PNG")
    with pytest.raises(Undecodable, match=r"20x10 px .*1/1, .*10x10 px"):
        decode_part(target.getvalue(), (10, 10), (0, 0, 10, 10), height_px=5, width_px=5, channels=3)


@pytest.mark.parametrize("shape", [(5, 7, 3), (5, 7, 1), (5, 7)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64])
def test_some_are_mirrored_where_they_lie(shape: tuple[int, ...], kind: type):
    images = np.random.default_rng(0).integers(0, 256, (4, *shape)).astype(kind)
    before = images.copy()
    mirror(images, [0, 3])
    assert np.array_equal(images[[1, 2]], before[[1, 2]])
    assert np.array_equal(images[[0, 3]], before[[0, 3], :, ::-1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (20, 6), (30, 40)])
def test_an_image_is_stretched_into_its_place(size: tuple[int, int], channels: int):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), np.uint8)
    places = np.full((3, 8, 8, channels), 77, np.uint8)
    assert np.array_equal(stretch(pixels, 8, 8, places[1]), stretch(pixels, 8, 8))
    assert np.array_equal(places[1], stretch(pixels, 8, 8)), "`out` itself must be filled"
    assert (places[[0, 2]] == 77).all()
