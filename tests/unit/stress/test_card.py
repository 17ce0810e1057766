from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from temper.stress import plots
from temper.stress.card import Card, Plot, as_bytes, as_count, as_rows, read_card, write_card, write_record
from temper.stress.params import ON_OBJECTS

SPREAD = {"value": 0.92136, "low": 0.9, "high": 0.94}
COSTS = {"bytes": 57_300, "params": 12_345, "macs": 20_100_000, "file": "quantized.onnx", "digest": "ab" * 32}
CARD = Card(
    kind="multiclass",
    headline="accuracy",
    greater_is_better=True,
    unit="share",
    confidence=0.95,
    images={"clean": 100, "stress": 20},
    data={
        "digest": "d",
        "size": "images of 28 x 28 px in grey",
        "splits": {"train": 8, "validation": 1, "test": 1},
        "classes": 2,
        "words": ["class", "classes"],
        "strata": {"a|b <script>": {"train": 8, "validation": 1, "test": 1}},
    },
    candidates={"quantized": {"accuracy": SPREAD, "stress": {"noise": SPREAD}, **COSTS}},
    strata={"a|b <script>": {"quantized": SPREAD}},
    conditions=({"name": "gaussian", "family": "noise", "unit": "deviation", "strengths": [0.1, 0.2]},),
    contract={
        "file": "quantized.onnx",
        "digest": "ab" * 32,
        "inputs": [{"name": "image", "type": "tensor(uint8)", "shape": ["N", "H", "W", "1"]}],
        "outputs": [{"name": "probabilities", "type": "tensor(float)", "shape": ["N", "2"]}],
        "metadata": {"temper.classes": '["a|b", "c"]'},
    },
    lineage={"train": "t" * 64},
    training={"teacher": {"fit": {"epochs": 5}}},
    plots=(Plot("plots/confusion.png", "Confusions", "Rows add up to 100."),),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plots").mkdir()
    figure = plots.draw_confusion(np.array([[3, 1], [0, 4]]), classes=("a", "b"), candidate="student")
    plots.save(figure, tmp_path / "plots" / "confusion.png")
    return tmp_path


def test_covers_on_objects_are_a_limit_unless_they_were_measured(folder: Path):
    write_card(folder, CARD)
    assert "Not tested: covers placed on the subjects, blur" in (folder / "card.md").read_text()
    measured = {**CARD.conditions[0], "name": ON_OBJECTS[0], "family": "occlusion"}
    write_card(folder, replace(CARD, conditions=(measured,)))
    assert "Not tested: blur" in (folder / "card.md").read_text()


def test_record_survives_writing_and_reading(folder: Path):
    write_record(folder, CARD)
    assert read_card(folder / "card.json") == CARD


def test_page_is_self_contained_and_escapes_names(folder: Path):
    write_card(folder, CARD, name="clothes")
    page = (folder / "card.html").read_text(encoding="utf-8")
    assert "<title>clothes: model card</title>" in page
    assert "data:image/png;base64," in page and "a|b &lt;script&gt;" in page and "<script" not in page
    assert "92.14" in page and "57.3 kB" in page and "teacher.fit.epochs" in page


def test_markdown_tables_have_as_many_cells_in_every_row(folder: Path):
    latency = {
        "candidates": {"quantized": {"latency_ms": {"median": 0.1934}, "images_per_s": {"median": 7123.4}}},
        "machine": {"cpu": "A chip", "cores": 2, "onnxruntime": "1.0"},
    }
    for given in (None, latency):
        write_card(folder, CARD, latency=given if given is None else _complete(given))
        text = (folder / "card.md").read_text(encoding="utf-8")
        blocks = [block.splitlines() for block in text.split("\n\n")]
        tables = [block for block in blocks if block[0].startswith("|")]
        assert len(tables) == 7
        for table in tables:
            assert len({line.replace("\\|", "").count("|") for line in table}) == 1, table
        assert ("0.193 ms" in text) == (given is not None)
        assert "![Confusions](plots/confusion.png)" in text


def _complete(latency: dict) -> dict:
    latency["candidates"]["quantized"]["latency_ms"] |= {"p10": 0.18, "p90": 0.21, "n": 200}
    return latency


@pytest.mark.parametrize(
    ("words", "absent"), [(["class", "classes"], "strat"), (["stratum", "strata"], "By class")]
)
def test_the_card_speaks_of_classes_where_strata_are_classes(folder: Path, words: list[str], absent: str):
    write_card(folder, replace(CARD, data={**CARD.data, "words": words}))
    for file, mark in (("card.md", "## "), ("card.html", "<h2>")):
        text = (folder / file).read_text(encoding="utf-8")
        assert "with 2 classes for images" in text and f"{mark}By {words[0]}" in text
        assert f"of each {words[0]}." in text and f"evenly over the {words[1]};" in text
        assert absent not in text and absent.capitalize() not in text


def test_without_training_or_stress_the_card_is_still_written(folder: Path):
    bare = {"quantized": {"accuracy": SPREAD, "stress": {}, **COSTS}}
    write_card(folder, replace(CARD, training={}, candidates=bare, conditions=()))
    assert "## Training" not in (folder / "card.md").read_text(encoding="utf-8")


def test_numbers_are_readable():
    assert [as_bytes(value) for value in (12, 57_300, 2_000_000)] == ["12 B", "57.3 kB", "2 MB"]
    assert [as_count(value) for value in (12, 12_345, 20_100_000)] == ["12", "12.3 k", "20.1 M"]
    assert as_rows({"a": {"b": 1, "c": [2]}, "d": "x"}) == [("a.b", "1"), ("a.c", "[2]"), ("d", "x")]


def test_equal_figures_give_equal_bytes_without_a_stamp(folder: Path):
    again = plots.draw_confusion(np.array([[3, 1], [0, 4]]), classes=("a", "b"), candidate="student")
    plots.save(again, folder / "again.png")
    content = (folder / "again.png").read_bytes()
    assert content == (folder / "plots" / "confusion.png").read_bytes()
    assert b"Software" not in content and b"Creation" not in content


def test_many_classes_leave_names_out():
    figure = plots.draw_confusion(
        np.eye(60, dtype=int), classes=[str(i) for i in range(60)], candidate="student"
    )
    assert not figure.axes[0].texts


def test_a_score_that_is_no_share_is_printed_in_its_unit(folder: Path):
    error = {"value": 11.4812, "low": 10.9, "high": 12.0}
    card = replace(
        CARD,
        unit="years",
        candidates={"quantized": {"accuracy": error, "stress": {"noise": error}, **COSTS}},
        strata={"a|b <script>": {"quantized": error}},
    )
    write_card(folder, card)
    for name in ("card.html", "card.md"):
        text = (folder / name).read_text()
        assert "11.48" in text and "1148" not in text and "accuracy, years" in text
