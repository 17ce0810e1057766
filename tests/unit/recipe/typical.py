"""A typical folder and a typical machine, as `make init` finds them.

`examples/folder/params.yaml` is written from them.
"""

from temper.data.source_params import ImageFolder
from temper.recipe.budget import Pace, Speeds
from temper.recipe.looking import Findings
from temper.recipe.new_project import make_text

FOUND = Findings(
    source=ImageFolder(source="imagefolder", folder="images"),
    problem={"kind": "multiclass"},
    num_classes=3,
    maps=False,
    num_examples=2624,
    counts={"cat": 1203, "dog": 821, "owl": 600},
    official={},
    num_groups=0,
    height_px=300,
    width_px=320,
    least_px=240,
    most_px=640,
    grey_share=0.02,
    num_sampled=500,
    unreadable=(),
)
"""Findings about photographs in three class folders."""
SPEEDS = Speeds(
    teacher=Pace(128, 128, step_s=0.008, answer_s=0.002),
    student=Pace(128, 128, step_s=0.0025, answer_s=0.0006),
    pretrained=Pace(160, 160, step_s=0.03, answer_s=0.008),
    start_s=8.0,
)
"""Speeds of two cores without matrix units."""


def text() -> str:
    """Return the text of params.yaml. It uses no pretrained weights, since an example must run everywhere."""
    return make_text(FOUND, SPEEDS, (), minutes=10, project="my-images")
