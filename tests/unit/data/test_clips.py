"""Clips: the same frames of every format, and what is wrong or doubtful with a file is said."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.data.dataset.packed import open_split
from temper.data.dataset.sample import take_sample
from temper.data.images.clip_reading import read_clip
from temper.data.images.reading import TooLarge, Unreadable
from temper.data.images.wide_sample import read_wide
from temper.inputs.clip_input import ClipInput
from temper.inputs.image_input import ImageInput
from tests.outside.files import set_lines
from tests.project import make_project, run_in_process

LIMITS = {"max_pixels": 100_000, "max_side_px": 500}
FORMATS = ["GIF", "PNG", "WEBP", "TIFF"]
GREY = ClipInput.of(ImageInput(8, 6, 1), 3)
COLOUR = ClipInput.of(ImageInput(8, 6, 3), 3)


def film(count: int, *, seed: int = 0) -> list[Image.Image]:
    """Frames of noise, 12 x 16 px, each brighter by 20 than the one before."""
    noise = np.random.default_rng(seed).integers(0, 9, (16, 12))
    return [Image.fromarray((noise + 20 * number).astype(np.uint8)) for number in range(count)]


def save(frames: list[Image.Image], kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], **lossless, **options)
    return stream.getvalue()


def levels(pixels: np.ndarray) -> list[int]:
    """Brightness of each frame as a number of the film."""
    return [round((float(frame.mean()) - 4) / 20) for frame in pixels]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("count", "taken"), [(9, [0, 4, 8]), (4, [0, 2, 3]), (2, [0, 1, 1]), (1, [0, 0, 0])])
def test_frames_are_spread_over_the_file_whatever_its_format(kind: str, count: int, taken: list[int]):
    for clip in (GREY, COLOUR):
        made = read_clip(save(film(count), kind), clip, **LIMITS)
        assert made.pixels.shape == clip.shape and made.pixels.dtype == np.uint8
        assert made.count == count and levels(made.pixels) == taken
        assert not made.notes and not made.coloured and not made.wide


def test_an_array_and_a_file_of_the_same_frames_are_the_same_clip():
    frames = film(5)
    array = np.stack([np.asarray(frame) for frame in frames])
    one, other = (read_clip(raw, COLOUR, **LIMITS).pixels for raw in (array, save(frames, "PNG")))
    assert (one == other).all()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_damaged_files_are_unusable(kind: str, share: float):
    raw = save(film(9), kind)
    with pytest.raises(Unreadable, match=r"damaged|not an image"):
        read_clip(raw[: int(share * len(raw))], COLOUR, **LIMITS)


def test_a_gif_that_ends_between_two_frames_is_named():
    raw = save(film(9), "GIF")
    assert [note.text[:9] for note in read_clip(raw[:-1], COLOUR, **LIMITS).notes] == ["GIFs lack"]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the file is empty"),
        (b"no film", "not an image in a known format"),
        (b"\0\0\0\x20ftypisom", "a video: extract its frames"),
        (np.zeros((8, 6), np.uint8), "an array of shape .8, 6. is no clip"),
    ],
)
def test_what_is_no_clip_is_named(raw: bytes | np.ndarray, words: str):
    with pytest.raises(Unreadable, match=words):
        read_clip(raw, COLOUR, **LIMITS)


def test_all_frames_together_are_limited():
    raw = save(film(9), "GIF")
    with pytest.raises(TooLarge, match=r"9 frames of 12x16 px, .*: more than prepare\.max_pixels = 9000"):
        read_clip(raw, COLOUR, max_pixels=9000, max_side_px=500)
    with pytest.raises(TooLarge, match="one side is longer"):
        read_clip(raw, COLOUR, max_pixels=10_000, max_side_px=15)


def test_each_frame_is_read_as_an_image_is():
    sizes = [Image.new("RGB", (12, 16), "red"), Image.new("CMYK", (16, 12)), Image.new("L", (4, 4), 9)]
    made = read_clip(save(sizes, "TIFF"), COLOUR, **LIMITS)
    assert {note.text for note in made.notes} == {
        "images in CMYK become RGB",
        "clips have frames of several sizes, each of which is brought to one size by itself",
    }
    assert (made.pixels[0] == (255, 0, 0)).all() and (made.pixels[2] == 9).all()
    clear = [Image.new("RGBA", (12, 16), (0, 0, 0, 10 * number)) for number in range(3)]
    made = read_clip(save(clear, "PNG"), COLOUR, **LIMITS)
    assert made.pixels[:, 0, 0, 0].tolist() == [255, 245, 235]
    assert read_clip(save(sizes[:1], "PNG"), GREY, **LIMITS).coloured
    boxed = ClipInput.of(ImageInput(16, 32, 3, fit="letterbox"), 3)
    made = read_clip(save(film(3), "PNG"), boxed, **LIMITS)
    assert (made.pixels[:, :, :10] == 114).all() and levels(made.pixels[:, :, 10:22]) == [0, 1, 2]


def test_slices_of_more_than_8_bits_take_the_range_of_all():
    slices = [Image.fromarray(np.full((16, 12), 1000 * number, np.uint16)) for number in range(1, 4)]
    raw = save(slices, "TIFF")
    found = read_wide(raw, GREY, max_pixels=100_000)
    assert found is not None and np.unique(found).tolist() == [1000, 2000, 3000]
    clip = ClipInput.of(ImageInput(8, 6, 1, levels=(1000.0, 3000.0)), 3)
    made = read_clip(raw, clip, **LIMITS)
    assert made.wide and made.pixels[:, 0, 0, 0].tolist() == [0, 128, 255]
    assert read_wide(save(film(3), "TIFF"), GREY, max_pixels=100_000) is None
    assert read_wide(b"none", GREY, max_pixels=100_000) is None


def folder_project(folder: Path) -> Path:
    """Write a project with class folders of clips, and with files that are not quite clips."""
    project = make_project(folder, "clip", families="")
    set_lines(project, ingest="{source: imagefolder, folder: clips}")
    for place, name in enumerate(("falling", "rising")):
        (project / "clips" / name).mkdir(parents=True)
        for number in range(12):
            kind, frames = FORMATS[number % 4], film(6, seed=100 * place + number)
            frames = frames[::-1] if name == "falling" else frames
            path = project / "clips" / name / f"{number}.{kind.lower()}"
            path.write_bytes(save(frames, kind))
    rising = project / "clips" / "rising"
    (rising / "short.gif").write_bytes(save(film(3, seed=900), "GIF"))
    (rising / "still.png").write_bytes(save(film(1, seed=901), "PNG"))
    wide = [frame.resize((70, 10)) for frame in film(6, seed=902)]
    (rising / "wide.gif").write_bytes(save(wide, "GIF"))
    (rising / "again.gif").write_bytes((rising / "0.gif").read_bytes())
    (rising / "cut.webp").write_bytes((rising / "2.webp").read_bytes()[:-40])
    return project


def test_class_folders_of_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = folder_project(tmp_path)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("clip_frames: 4", "clip_frames: 4, max_bad_share: 0.1"))
    run_in_process(project, "ingest")
    prepare = run_in_process(project, "prepare")
    said = capsys.readouterr().err
    assert "left out: 26 clips have more than 4 frames, of which 4 are used, evenly spread" in said
    assert "converted: 1 clips have fewer than 4 frames (prepare.clip_frames), some of which repeat" in said
    assert "noticed: 1 clips are files with a single frame" in said and "rising/still.png" in said
    assert "noticed: 1 images lose their shape" in said and "rising/wide.gif" in said
    (clip,) = prepare.facts["inputs"]
    assert (clip["input"], clip["frames"], clip["channels"], clip["height_px"]) == ("clip", 4, 1, 16)
    assert len(clip["mean"]) == 1 and clip["std"][0] > 1
    assert prepare.facts["dropped"] == {"cannot be used": 1, "the same image occurs earlier": 1}
    held = open_split(prepare, "train")["clip"]
    assert held.shape[1:] == (4, 16, 16, 1)
    report = (prepare.folder / "report.html").read_text()
    assert "clips of 4 frames of 16 x 16 px in grey" in report and "Pixels of the training split" in report


def test_the_digest_of_a_grey_clip_does_not_depend_on_its_channels(tmp_path: Path):
    digests = []
    for mode in ("auto", "colour"):
        project = folder_project(tmp_path / mode)
        path = project / "params.yaml"
        text = path.read_text().replace("clip_frames: 4", f"clip_frames: 4, mode: {mode}, max_bad_share: 0.1")
        path.write_text(text)
        run_in_process(project, "ingest")
        prepare = run_in_process(project, "prepare")
        import pyarrow.parquet as pq

        table = pq.read_table(prepare.path("rows.parquet"))
        digests.append(dict(zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True)))
    assert digests[0] == digests[1]


def test_clips_beside_texts_and_numbers_in_a_table(tmp_path: Path):
    from temper.config import load

    project = folder_project(tmp_path)
    lines = ["path,labels,words,age"]
    for name in ("falling", "rising"):
        lines += [
            f"{name}/{number}.{FORMATS[number % 4].lower()},{name},it is {name},3" for number in range(12)
        ]
    (project / "clips" / "t.csv").write_text("\n".join(lines))
    set_lines(
        project,
        ingest="{source: table, file: clips/t.csv, text: words, numbers: [age]}",
        problem="{kind: multiclass, inputs: [clip, text, table]}",
    )
    params = load(project)
    (tmp_path / "work").mkdir()
    sample = take_sample(params.ingest, params.problem, params.prepare, project, tmp_path / "work")
    assert list(sample.facts) == ["clip", "text", "table"]
    assert sample.columns["clip"].shape == (24, 4, 16, 16, 1)
    assert sample.facts["clip"].mean and json.dumps(sample.facts["table"].mean) == "[3.0]"


def test_slices_of_a_scan_are_prepared_with_their_own_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project = make_project(tmp_path, "clip", families="")
    set_lines(project, ingest="{source: imagefolder, folder: scans}")
    noise = np.random.default_rng(0)
    for place, name in enumerate(("thick", "thin")):
        (project / "scans" / name).mkdir(parents=True)
        for number in range(10):
            slices = noise.integers(1000, 2000 + 1000 * place, (5, 16, 16)).astype(np.uint16)
            slices[number % 5] = 4000
            path = project / "scans" / name / f"{number}.tiff"
            path.write_bytes(save([Image.fromarray(each) for each in slices], "TIFF"))
    run_in_process(project, "ingest")
    prepare = run_in_process(project, "prepare")
    said = capsys.readouterr().err
    assert "20 of 20 sampled images have more than 8 bits: their levels 0 to 4095 become 0 to 255" in said
    (clip,) = prepare.facts["inputs"]
    assert clip["levels"] == [0.0, 4095.0] and clip["channels"] == 1
    held = open_split(prepare, "train")["clip"]
    assert held.min() >= 62 and held.max() == 249 and (held == 249).all(axis=(2, 3, 4)).any()
