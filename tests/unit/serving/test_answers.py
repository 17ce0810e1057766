"""Answers say what their numbers are called only where the model's file says so."""

import json

import numpy as np

from temper.fields import Field, Frame, about_boxes
from temper.problems.deployed_answer import ANSWER, read_answer, write_answer
from temper.problems.detection import Detection
from temper.problems.keypoints import Keypoints
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.regression import Regression
from temper.serving.answers import as_json

FRAME = Frame(height_px=50, width_px=200)
CLASSES = ("a", "b", "c", "d")


def said(answers: dict[str, np.ndarray], fields: dict[str, Field]) -> list[dict[str, object]]:
    return json.loads(as_json(answers, fields, [FRAME] * len(next(iter(answers.values())))))


def test_boxes_are_no_classes_though_there_are_as_many():
    boxes = np.array([[[0.1, 0.2, 0.3, 0.9]] * 4], np.float32)
    (answer,) = said({"boxes": boxes}, {"boxes": Field("boxes")})
    assert set(answer) == {"boxes"} and all(set(each) == {"box"} for each in answer["boxes"])
    numbers = np.array([[0.1, 0.2, 0.3, 0.9]], np.float32)
    (answer,) = said({"sizes": numbers}, {"sizes": Field()})
    assert set(answer) == {"sizes"}


def test_probabilities_are_followed_by_the_best_class():
    (answer,) = said(
        {"probabilities": np.array([[0.1, 0.7, 0.2, 0.0]], np.float32)},
        {"probabilities": Field(names=CLASSES)},
    )
    assert answer["class"] == "b" and answer["score"] == np.float32(0.7)


def test_of_several_true_classes_all_are_named():
    fields = Multilabel(kind="multilabel", classes=CLASSES, threshold=0.4).answer
    values = np.array([[0.5, 0.4, 0.3, 0.0], [0.1, 0.1, 0.1, 0.1]], np.float32)
    both, none = said({"probabilities": values}, dict(fields))
    assert both["classes"] == ["a", "b"] and none["classes"] == [] and "class" not in both


def test_measurements_have_names_and_a_unit_and_no_class():
    values = {"values": np.array([[31.5, 62.0]], np.float32)}
    problem = Regression(kind="regression", quantities=("age", "weight"), unit="years")
    (answer,) = said(values, dict(problem.answer))
    assert answer == {"values": {"age": 31.5, "weight": 62.0}, "unit": "years"}
    (answer,) = said(values, {"values": Field(names=("age", "weight"), unit="")})
    assert answer == {"values": {"age": 31.5, "weight": 62.0}}
    metadata = write_answer(problem)
    assert read_answer(metadata) == problem.answer


def test_two_answers_with_classes_keep_their_names_apart():
    answers = {"colour": np.array([[0.9, 0.1]], np.float32), "shape": np.array([[0.2, 0.8]], np.float32)}
    fields = {"colour": Field(names=("red", "blue")), "shape": Field(names=("round", "square"))}
    (answer,) = said(answers, fields)
    assert (answer["colour_class"], answer["shape_class"]) == ("red", "square") and "class" not in answer


DETECTED = {
    "boxes": np.array([[[0, 0, 1, 1], [0, 0, 0.5, 0.12345], [0, 0, 0, 0], [0.25, 0.5, 0.75, 1]]], np.float32),
    "scores": np.array([[0.5, 0.91239, 0.99, 0.3]], np.float32),
    "labels": np.array([[3, 1, 0, 0]], np.int64),
    "boxes_valid": np.array([[1, 1, 0, 1]], np.int64),
}
"""Answers of which one does not count, and whose scores do not fall."""
OBJECTS = {
    "boxes": Field("boxes"),
    "labels": Field("sequence", names=CLASSES),
    "scores": Field("sequence"),
}


def test_boxes_are_objects_best_first_without_those_that_do_not_count():
    (answer,) = said(DETECTED, OBJECTS)
    assert answer == {
        "boxes": [
            {"class": "b", "score": 0.9124, "box": [0.0, 0.0, 100.0, 6.17]},
            {"class": "d", "score": 0.5, "box": [0.0, 0.0, 200.0, 50.0]},
            {"class": "a", "score": 0.3, "box": [50.0, 25.0, 150.0, 50.0]},
        ]
    }
    fields = Detection(kind="detection", classes=CLASSES).answer
    assert said(DETECTED, dict(fields)) == [answer], "the problem declares the same"
    nothing = {**DETECTED, "boxes_valid": np.zeros((1, 4), np.int64)}
    assert said(nothing, OBJECTS) == [{"boxes": []}]


def test_boxes_with_a_small_score_can_be_left_out():
    def classes(least: float) -> list[str]:
        (answer,) = json.loads(as_json(DETECTED, OBJECTS, [FRAME], least_score=least))
        return [each["class"] for each in answer["boxes"]]

    assert classes(0.3) == ["b", "d", "a"] and classes(0.31) == ["b", "d"] and classes(0.95) == []


def test_a_sequence_belongs_to_boxes_only_if_the_same_entries_count():
    """Two sequences with names keep theirs, and one with entries of its own stays beside the boxes."""
    fields = {
        **OBJECTS,
        "colours": Field("sequence", names=("red", "blue")),
        "text": Field("sequence", names=("x", "y")),
    }
    more = {
        **DETECTED,
        "colours": np.array([[1, 0, 0, 1]], np.int64),
        "text": np.array([[1, 1, 0]], np.int64),
        "text_valid": np.array([[1, 0, 1]], np.int64),
    }
    shared = {**more, "colours_valid": more["boxes_valid"]}
    assert about_boxes("boxes", fields, [*DETECTED, "colours"]) == {
        "colours": "colours",
        "labels": "labels",
        "score": "scores",
    }
    (answer,) = said({**DETECTED, "colours": more["colours"]}, fields)
    assert answer["boxes"][0] == {
        "colours": "red",
        "labels": "b",
        "score": 0.9124,
        "box": [0.0, 0.0, 100.0, 6.17],
    }
    (answer,) = said(shared, fields)
    assert answer["text"] == ["y", "x"] and answer["colours"] == ["blue", "red", "blue"]
    assert all(each.keys() == {"box"} for each in answer["boxes"]), "which entries count is not said"


def test_what_a_file_says_of_its_answer_is_read_again():
    problem = Multilabel(kind="multilabel", classes=CLASSES, threshold=0.3)
    metadata = write_answer(problem)
    assert read_answer(metadata) == problem.answer
    assert json.loads(metadata[ANSWER])["probabilities"]["names"] == "temper.classes", "written once"


def test_files_from_before_are_known_by_their_kind():
    metadata = {"temper.kind": "multiclass", "temper.classes": json.dumps(CLASSES)}
    assert read_answer(metadata) == Multiclass(kind="multiclass", classes=CLASSES).answer


def test_boxes_and_points_are_in_pixels_of_the_image_that_was_sent():
    """Also if the model saw it between two borders, of which an answer may lie on one."""
    between = Frame(height_px=50, width_px=200, scale=(1.0, 0.25), offset=(0.0, 0.375))
    problem = Keypoints(kind="keypoints", points=("nose", "tail"))
    answers = {
        "points": np.array([[[0.5, 0.5], [0.25, 0.1]]], np.float32),
        "confidence": np.array([[0.9, 0.2]], np.float32),
        "boxes": np.array([[[0.5, 0.375, 1.0, 0.625]]], np.float32),
    }
    fields = {**problem.answer, "boxes": Field("boxes")}
    (answer,) = json.loads(as_json(answers, fields, [between]))
    assert answer["points"] == {"nose": [100.0, 25.0], "tail": [50.0, 0.0]}
    assert answer["boxes"] == [{"box": [100.0, 0.0, 200.0, 50.0]}]
    assert answer["confidence"] == {"nose": np.float32(0.9), "tail": np.float32(0.2)}
    (answer,) = said({"points": answers["points"]}, dict(problem.answer))
    assert answer["points"]["nose"] == [100.0, 25.0], "the whole image was seen"
    assert read_answer(write_answer(problem)) == problem.answer
