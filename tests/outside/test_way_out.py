"""Text from data is never markup, loopback needs no proxy, and the server reads any type of image."""

import asyncio
import io
import string
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper import fonts
from temper.data.dataset.contact_sheet import write_sheet
from temper.data.dataset.report import write_report
from temper.data.remark import Remark
from temper.inputs.image_input import ImageInput
from temper.ops.project import Project
from temper.problem import Row
from temper.serving.app import make_app
from temper.serving.model_follower import Follower
from temper.stages.augment import _print_counts
from temper.stress.plots import draw_confusion, save
from tests.unit.serving.served import SIDE, SMALL, ask, make_place

NAMES = ("Ba$$in", "$1", "a_b^c", "[red]owl[/red]", "<b>cat</b>", "**dog**", "\\alpha")


def test_names_are_drawn_as_they_are(tmp_path: Path):
    figure = draw_confusion(np.eye(len(NAMES), dtype=np.int64), classes=NAMES, candidate="a $student$")
    save(figure, tmp_path / "confusion.png")
    texts = {text.get_text() for axis in figure.axes for text in axis.get_xticklabels()}
    assert set(NAMES) <= texts
    assert not any(text.get_parse_math() for axis in figure.axes for text in axis.get_yticklabels())


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]):
    _print_counts(dict.fromkeys(NAMES, 3), dict.fromkeys(NAMES, 3), dict.fromkeys(NAMES, 1.0))
    said = capsys.readouterr().err
    assert all(name in said for name in NAMES)


def test_names_are_escaped_in_the_report(tmp_path: Path):
    (tmp_path / "sheet.png").write_bytes(b"png")
    write_report(
        tmp_path / "report.html",
        counts={"train": dict.fromkeys(NAMES, 1)},
        examples={"train": len(NAMES)},
        facts={"image": ImageInput(8, 8, 1, (1.0,), (1.0,))},
        rows=[Row("<i>x</i>", "images.zip/<i>x</i>")],
        dropped={0: "<u>no</u>"},
        others={0: 0},
        sheet=tmp_path / "sheet.png",
        remarks=[Remark("left out", "files", 1, ("<script>",))],
    )
    page = (tmp_path / "report.html").read_text()
    assert "&lt;b&gt;cat&lt;/b&gt;" in page and "&lt;script&gt;" in page and "&lt;i&gt;x" in page
    assert not any(tag in page for tag in ("<b>", "<script>", "<i>", "<u>"))


@pytest.mark.parametrize("known", ["", "example.org", "localhost,example.org"])
def test_loopback_never_goes_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, known)
    found = Project.at(tmp_path).environment()
    for name in ("NO_PROXY", "no_proxy"):
        hosts = found[name].split(",")
        assert {"localhost", "127.0.0.1", "::1"} | set(filter(None, known.split(","))) == set(hosts)


@pytest.mark.parametrize("path", ["/predict", "/predict/"])
@pytest.mark.parametrize("kind", ["image/jpg", "image/avif", "image/x-png", "Image/PNG", "image/pjpeg"])
def test_any_type_of_image_is_decoded_by_its_content(tmp_path: Path, path: str, kind: str):
    stream = io.BytesIO()
    Image.new("L", (SIDE, SIDE), 90).save(stream, "AVIF" if "avif" in kind else "PNG")
    place = make_place(tmp_path, 1)
    follower = Follower(lambda: place)
    app = make_app(follower, SMALL)
    follower.look()
    said = asyncio.run(ask(app, path, stream.getvalue(), headers={"content-type": kind}))
    assert said.status == 200, said.body


def test_letters_that_no_font_has_are_named(monkeypatch: pytest.MonkeyPatch):
    latin, chinese = {*map(ord, string.ascii_letters)}, {*map(ord, "猫犬x")}
    monkeypatch.setattr(fonts, "_letters", lambda: {Path("latin"): latin, Path("chinese"): chinese})
    assert fonts.say_missing(["cat", "猫"]) == ""
    assert "no installed font has the letters Ж of names of classes" in fonts.say_missing(["猫Ж"])
    assert fonts.find_font("猫x") == Path("chinese") and fonts.find_font("ax") == Path("latin")


def test_the_sheet_is_written_in_any_script(tmp_path: Path):
    one = np.zeros((8, 8, 1), np.uint8)
    for number, name in enumerate(("cat", "Ёлка", "猫")):
        write_sheet([(name, [one])], tmp_path / f"{number}.png")
    pixels = [np.asarray(Image.open(tmp_path / f"{number}.png")) for number in range(3)]
    assert all((each[:, :140] < 128).any() for each in pixels), "there are letters"
