"""What the long stages will take on this machine: the record of an estimate, how long it holds, and how people are told.

No torch here: whoever asks again for what was timed before is answered from `.temper/estimate.json`. The timing itself is in
`temper.commands.estimate`.
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
"""The stages whose time grows with the data, the network and the epochs."""
TRAININGS = TIMED[:2]
_SECTIONS = ("seed", "problem", "ingest", "prepare", "augment")
_LARGE_PX = 48
"""Sides from which on an early stride is usual."""
_STEP_PX = 16


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a stage will take."""

    seconds: float
    """In all, from its start to its end."""
    words: str
    """What that is made of."""
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{say_seconds(self.seconds)} on this machine: {self.words}"


def is_little(stage: str, params: Params, size: Size) -> bool:
    """Whether a training is over before it was timed."""
    return params.prepare.keep == "pixels" and size.pixels(params, stage) < LITTLE


def key_of(stage: str, params: Params, size: Size) -> str:
    """What an estimate hangs on."""
    sections = (*_SECTIONS, *TIMED[: TIMED.index(stage) + 1])
    return digest_json([digest_value(params, sections), size.data, describe_trainer()])


def read_estimates(project: Path, params: Params, size: Size) -> dict[str, Estimate]:
    """The estimates that still hold, by stage; none where the file is missing or damaged: no result hangs on it."""
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
    """Store estimates beside those of other stages that still hold."""
    path = project / FILE
    path.parent.mkdir(exist_ok=True)
    kept = {**read_estimates(project, params, size), **estimates}
    write_sealed(
        path,
        {name: {"key": key_of(name, params, size), "estimate": asdict(each)} for name, each in kept.items()},
    )


def say_seconds(seconds: float) -> str:
    """A time for people, not more exact than an estimate is.

    Example:
        >>> say_seconds(4.2), say_seconds(85), say_seconds(1500), say_seconds(20_000)
        ('about 5 s', 'about 85 s', 'about 25 min', 'about 5.6 h')
    """
    if seconds < 90:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 5400 else f"about {seconds / 3600:.1f} h"


def say_step(seconds: float) -> str:
    """The time of one step or one image.

    Example:
        >>> say_step(0.6512), say_step(0.0123)
        ('0.65 s', '12 ms')
    """
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{seconds * 1e3:.2g} ms"


def advise(stage: str, params: Params, estimate: Estimate, *, warn_minutes: float) -> str:
    """What would shorten a training that takes longer than a user is ready to wait unasked, with figures."""
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
            f"smaller images (prepare.height_px x width_px {prepare.height_px}x{prepare.width_px} → {sides[0]}x{sides[1]}: "
            f"{say_seconds(estimate.seconds * part)}, since time goes with the area)"
        )
    if min(prepare.height_px, prepare.width_px) >= _LARGE_PX:
        ways += _stride(stage, section.backbone)
    if estimate.device == "cpu":
        ways.append("a GPU")
    else:
        ways.append(
            f"larger batches ({stage}.fit.batch_size {section.fit.batch_size}), as long as they fit the GPU"
        )
    return f"{stage} takes more than plan.warn_minutes = {warn_minutes:g}. What would shorten it: {'; '.join(ways)}"


def _stride(stage: str, backbone: Any) -> list[str]:
    """An early stride, where the network is one of ours and has none. Shares: of training steps at 96 px on a processor."""
    if isinstance(backbone, SmallVGG):
        early = backbone.stem.stride > 1
        return [] if early else [f"an early stride ({stage}.backbone.stem.stride: 2, about a third less)"]
    if backbone.family != "timm":
        return [
            f"a quicker network ({stage}.backbone: a small-vgg with stem: {{stride: 2}}, about a third of the time)"
        ]
    return []
