"""A registered model that answers a different question is refused, and the error names the difference."""

import json

import pytest

from temper.commands.rate import check_question
from temper.inputs.image_input import ImageInput
from temper.problems import load

PROBLEM = load({"kind": "multiclass", "classes": ["cat", "dog", "emu"]})

FACTS = {"image": ImageInput(4, 4, 3)}


def metadata(
    *, kind: str = "multiclass", classes: tuple[str, ...] = ("cat", "dog", "emu"), channels: int = 3
):
    shape = ["N", "H", "W", channels]
    return {
        "temper.kind": kind,
        "temper.classes": json.dumps(classes),
        "temper.input": json.dumps(shape),
        "temper.size_px": "[4, 4]",
    }


def test_the_same_question():
    check_question(metadata(), PROBLEM, FACTS)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (metadata(kind="multilabel"), "the model answers multilabel, the project asks multiclass"),
        (metadata(classes=("cat", "dog")), "class lists differ: .*lacks emu$"),
        (metadata(classes=("cat", "dog", "emu", "fox")), "class lists differ: .*adds fox$"),
        (metadata(classes=("cat", "fox")), "class lists differ: .*lacks dog, emu and adds fox$"),
        (metadata(classes=("dog", "cat", "emu")), "class lists differ: .*another order$"),
        (
            metadata(channels=1),
            r"inputs differ: .* takes image \(1 channel\), .* has image \(3 channels\)",
        ),
        ({}, "the model answers None, the project asks multiclass"),
    ],
)
def test_another_question(found: dict[str, str], words: str):
    with pytest.raises(ValueError, match=words):
        check_question(found, PROBLEM, FACTS)
