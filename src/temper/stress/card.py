"""The model card: what the model is, what it was made from, how good it is, and its limits.

One record is rendered as HTML and as Markdown. The record contains no time and no machine, so equal models
have equal cards. Measurements that depend on the machine (latency) are passed in when a card is written for
the users of that machine. The HTML embeds its images; the Markdown links to the image files.

Source:
    Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from temper.artifacts import write_atomically
from temper.problem import SHARE
from temper.stress.card_html import HTML
from temper.stress.card_markdown import MARKDOWN
from temper.stress.params import ON_OBJECTS

RECORD = "card.json"
CLASSES = ("class", "classes")
STRATA = ("stratum", "strata")
"""Singular and plural of the groups by which the card breaks down scores.

`CLASSES` if every group is a class, `STRATA` if there are other groups besides the classes.
"""

LIMITS = (
    "Every score was measured on the test split of this dataset. "
    "Scores may be worse on images from another camera, place or time.",
    "The stress is synthetic and applies one condition at a time. Not tested: {covers}blur, compression, "
    "weather, rotated or scaled subjects, several conditions at once, adversarial attacks, and subjects of "
    "none of the classes.",
    "Scores under stress use a subset of the test images, spread evenly over the {strata}; compare them with "
    "severity 0 of the same images, not with the clean score of all test images.",
    "Intervals show how much the scores would vary with another choice of test images. "
    "They do not cover another training run: there was only one.",
    "The labels were taken as correct: a wrong label in the test split counts as a mistake of the model.",
    "An int8 file may give slightly different answers on processors without the same integer instructions.",
)


@dataclass(frozen=True)
class Plot:
    """A figure of the card."""

    file: str
    """Path of the image file, relative to the card."""
    title: str
    text: str
    """What the figure shows, in one sentence."""


@dataclass(frozen=True)
class Card:
    """The content of a card; JSON values only."""

    kind: str
    """Kind of the problem."""
    headline: str
    greater_is_better: bool
    unit: str
    """Unit of the headline."""
    confidence: float
    images: Mapping[str, int]
    """`clean` and `stress`: number of test images behind the clean scores and the scores under stress; and
    `groups`, number of groups that the test images form, if they form any."""
    data: Mapping[str, Any]
    """`digest`, `size` (as text), `splits` (name -> number of images), `classes` (number of classes),
    `strata` (name -> split -> number of images) and `words` (singular and plural of the strata: `CLASSES`
    or `STRATA`)."""
    candidates: Mapping[str, Mapping[str, Any]]
    """Name -> measurements, as in the facts of `evaluate`."""
    strata: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Stratum -> candidate -> `value`, `low` and `high` of the headline."""
    conditions: tuple[Mapping[str, Any], ...]
    """`name`, `family`, `unit` and `strengths` of each condition."""
    contract: Mapping[str, Any]
    """`file`, `digest`, `inputs` and `outputs` (name, type and shape of each) and `metadata` of the
    deployed file."""
    lineage: Mapping[str, str]
    """Stage -> digest of its artifact."""
    training: Mapping[str, Any]
    """How the networks were trained, nested; empty if this was not recorded."""
    plots: tuple[Plot, ...]
    parts: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Part of the truth -> candidate -> `value`, `low` and `high` of the headline; often empty."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the model, as sentences."""


def read_card(path: Path) -> Card:
    """Read the record that `write_record` wrote."""
    found = json.loads(path.read_text(encoding="utf-8"))
    plots = tuple(Plot(**plot) for plot in found.pop("plots"))
    return Card(
        **{
            **found,
            "plots": plots,
            "conditions": tuple(found["conditions"]),
            "warnings": tuple(found["warnings"]),
        }
    )


def write_record(folder: Path, card: Card) -> None:
    """Write `card.json`, from which the card can be rendered again."""
    write_atomically(folder / RECORD, json.dumps(asdict(card), indent=2) + "\n")


def write_card(
    folder: Path, card: Card, *, latency: Mapping[str, Any] | None = None, name: str | None = None
) -> None:
    """Write `card.html` and `card.md` into a folder that contains the card's plots.

    Args:
        folder: Folder of the plots, into which the card is written.
        card: Content of the card.
        latency: Content of `reports/latency.json`; None omits speed.
        name: Name of the model; None makes the kind of problem the title.
    """
    from jinja2 import Environment, StrictUndefined

    one, many = card.data["words"]
    is_covered = any(item["name"] in ON_OBJECTS for item in card.conditions)
    covers = "" if is_covered else "covers placed on the subjects, "
    limits = [limit.format(strata=many, covers=covers) for limit in LIMITS]
    facts = {
        "card": card,
        "unit": "%" if card.unit == SHARE else card.unit,
        "latency": latency,
        "title": name or f"A {card.kind} model",
        "limits": limits,
        "one": one,
    }
    for file, template, escape in (("card.html", HTML, True), ("card.md", MARKDOWN, False)):
        env = Environment(autoescape=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        env.filters |= {
            "score": partial(as_score, unit=card.unit),
            "spread": partial(spread, unit=card.unit),
            "bytes": as_bytes,
            "count": as_count,
            "rows": as_rows,
            "cell": lambda value: str(value).replace("|", "\\|"),
            "uri": lambda plot: _as_uri(folder / plot),
        }
        write_atomically(folder / file, env.from_string(template).render(facts).rstrip() + "\n")


def as_score(value: float, unit: str) -> str:
    """Format a score, a share in per cent: `92.14` for 0.92138; `3.271` for another unit."""
    return f"{100 * value:.2f}" if unit == SHARE else f"{value:.4g}"


def spread(found: Mapping[str, float], unit: str) -> str:
    """Format a score with its interval, e.g. `92.14 (91.60 to 92.68)`."""
    value, low, high = (as_score(found[name], unit) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def as_bytes(value: int) -> str:
    """Format a size with a readable unit (1 kB = 1000 bytes), e.g. `57.3 kB`."""
    return f"{_scaled(value)}B"


def as_count(value: int) -> str:
    """Format a large number with a readable unit, e.g. `20.1 M`."""
    return _scaled(value).rstrip()


def as_rows(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten a nested mapping into (dotted key, value) pairs."""
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            rows += as_rows(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", str(value)))
    return rows


def _scaled(value: int) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:g} "


def _as_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
