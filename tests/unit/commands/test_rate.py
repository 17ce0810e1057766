"""A registered model that answers another question than is asked is refused, and the difference named."""

import json

import pytest

from temper.commands.rate import check_question
from temper.problems import load

PROBLEM = load({"kind": "multiclass", "classes": ["cat", "dog", "emu"]})


def metadata(
    *, kind: str = "multiclass", classes: tuple[str, ...] = ("cat", "dog", "emu"), channels: int = 3
):
    shape = ["N", "H", "W", channels]
    return {"temper.kind": kind, "temper.classes": json.dumps(classes), "temper.input": json.dumps(shape)}


def test_the_same_question():
    check_question(metadata(), PROBLEM, 3)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (metadata(kind="multilabel"), "the model answers multilabel, the project asks multiclass"),
        (metadata(classes=("cat", "dog")), "the model's classes are not the project's: it does not know emu"),
        (metadata(classes=("cat", "dog", "emu", "fox")), "it alone knows fox"),
        (metadata(classes=("dog", "cat", "emu")), "they are in another order"),
        (metadata(channels=1), "the model takes images of 1 channels, the project's have 3"),
        ({}, "the model answers None, the project asks multiclass"),
    ],
)
def test_another_question(found: dict[str, str], words: str):
    with pytest.raises(ValueError, match=words):
        check_question(found, PROBLEM, 3)
