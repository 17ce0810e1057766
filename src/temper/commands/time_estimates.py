"""Estimated durations of the long stages on this machine: storage, validity, and text for people.

This module does not import torch, so that a stored estimate is read from `.temper/estimate.json` without
delay. The timing itself is in `temper.commands.estimate`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from temper.artifacts import digest_json, read_sealed, write_sealed
from temper.commands.machine import describe_trainer
from temper.commands.workload import LITTLE, Size
from temper.config import Params, digest_value
from temper.networks.params import SmallVGG

FILE = Path(".temper") / "estimate.json"
TIMED = ("train", "distill", "evaluate")
"""Stages whose time grows with the data, the network and the epochs."""
TRAININGS = TIMED[:2]
_SECTIONS = ("seed", "problem", "ingest", "prepare", "augment")
_LARGE_PX = 48
"""Image sides from which an early stride is usual."""
_STEP_PX = 16


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Estimated duration of a stage."""

    seconds: float
    """Total time from the start of the stage to its end."""
    words: str
    """Text with the parts of the total."""
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{say_seconds(self.seconds)} on this machine: {self.words}"


def is_little(stage: str, params: Params, size: Size) -> bool:
    """Return whether a training takes less than about a minute, so that timing it is not worth it."""
    return params.prepare.keep == "pixels" and size.pixels(params, stage) < LITTLE


def key_of(stage: str, params: Params, size: Size) -> str:
    """Return a digest of everything that an estimate depends on."""
    sections = (*_SECTIONS, *TIMED[: TIMED.index(stage) + 1])
    return digest_json([digest_value(params, sections), size.data, describe_trainer()])


def read_estimates(project: Path, params: Params, size: Size) -> dict[str, Estimate]:
    """Return the estimates that are still valid, by stage.

    If the file is missing or damaged, there are none. This is no error, since no result depends on them.
    """
    try:
        found: Mapping[str, Any] = read_sealed(project / FILE)
        return {
            name: Estimate(**found[name]["estimate"])
            for name in TIMED
            if name in found and found[name]["key"] == key_of(name, params, size)
        }
    except (ValueError, KeyError, TypeError):
        return {}


def write_estimates(project: Path, params: Params, size: Size, estimates: Mapping[str, Estimate]) -> None:
    """Store estimates together with those of other stages that are still valid."""
    path = project / FILE
    path.parent.mkdir(exist_ok=True)
    kept = {**read_estimates(project, params, size), **estimates}
    write_sealed(
        path,
        {name: {"key": key_of(name, params, size), "estimate": asdict(each)} for name, each in kept.items()},
    )


def say_seconds(seconds: float) -> str:
    """Format a time for people, no more exactly than an estimate is.

    Example:
        >>> say_seconds(4.2), say_seconds(85), say_seconds(1500), say_seconds(20_000)
        ('about 5 s', 'about 85 s', 'about 25 min', 'about 5.6 h')
    """
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def say_step(seconds: float) -> str:
    """Format the time of one step or one image.

    Example:
        >>> say_step(0.6512), say_step(0.0123)
        ('0.65 s', '12 ms')
    """
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds * 1e3:.2g} ms"


def advise(stage: str, params: Params, estimate: Estimate, *, warn_minutes: float) -> str:
    """Return text with figures that says what would shorten a training longer than `plan.warn_minutes`."""
    section, prepare = getattr(params, stage), params.prepare
    share = 60 * warn_minutes / estimate.seconds
    ways = []
    if (epochs := int(section.fit.epochs * share)) >= 1:
        fewer = say_seconds(estimate.seconds * epochs / section.fit.epochs)
        ways.append(f"fewer epochs ({stage}.fit.epochs {section.fit.epochs} → {epochs}: {fewer})")
    sides = [int(side * share**0.5) // _STEP_PX * _STEP_PX for side in (prepare.height_px, prepare.width_px)]
    if min(sides) >= 2 * _STEP_PX:
        part = sides[0] * sides[1] / (prepare.height_px * prepare.width_px)
        ways.append(
            f"smaller images (prepare.height_px x width_px {prepare.height_px}x{prepare.width_px} → "
            f"{sides[0]}x{sides[1]}: {say_seconds(estimate.seconds * part)}, since time grows with the area)"
        )
    if min(prepare.height_px, prepare.width_px) >= _LARGE_PX:
        ways += _stride(stage, section.backbone)
    if estimate.device == "cpu":
        ways.append("a GPU")
    else:
        ways.append(
            f"larger batches ({stage}.fit.batch_size {section.fit.batch_size}), as long as they fit the GPU"
        )
    text = f"{stage} takes more than plan.warn_minutes = {warn_minutes:g}."
    return f"{text} What would shorten it: {'; '.join(ways)}"


def _stride(stage: str, backbone: Any) -> list[str]:
    """Suggest an early stride or a faster network if the network is one of ours.

    The shares in the text were measured on training steps at 96 px on a processor.
    """
    if isinstance(backbone, SmallVGG):
        advice = f"an early stride ({stage}.backbone.stem.stride: 2, about a third less time)"
        return [] if backbone.stem.stride > 1 else [advice]
    if backbone.family != "timm":
        return [
            f"a faster network ({stage}.backbone: a small-vgg with stem: {{stride: 2}}, "
            "about a third of the time)"
        ]
    return []
