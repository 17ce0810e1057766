"""The model card: what was made, from what, how good it is and where that ends; one record, written as HTML and Markdown.

The record holds no time and no machine, so equal models have equal cards; figures of a machine (latency) are handed in when a
card is written for people of that machine. The HTML holds its images inside; the Markdown points at the files.

Source:
    Mitchell et al. 2019, "Model cards for model reporting", arXiv:1810.03993.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from temper.artifacts import write_atomically
from temper.stress.card_html import HTML
from temper.stress.card_markdown import MARKDOWN

RECORD = "card.json"
CLASSES = ("class", "classes")
STRATA = ("stratum", "strata")
"""What the card calls that by which scores are broken down: plain classes, or something else besides them."""

LIMITS = (
    "Every figure is of this data set's test split. Images from another camera, place or time may go worse.",
    "The stress is synthetic and one thing at a time. Not tested: blur, compression, weather, turned or scaled subjects, "
    "several conditions at once, adversarial attacks, and subjects of none of the classes.",
    "Stressed figures are of a part of the test images, spread evenly over the {strata}; compare them with severity 0 of "
    "the same images, not with the clean score of all.",
    "Intervals say what another choice of test images would change. They say nothing about another training run: "
    "there was one.",
    "The truth was taken as given: wrong labels in the test split count as mistakes of the model.",
    "An int8 file may answer a little differently on processors without the same integer instructions.",
)


@dataclass(frozen=True)
class Plot:
    """An image of the card."""

    file: str
    """Relative to the card."""
    title: str
    text: str
    """What it shows, in a sentence."""


@dataclass(frozen=True)
class Card:
    """What a card says; JSON values only."""

    kind: str
    """Of the problem."""
    headline: str
    greater_is_better: bool
    confidence: float
    images: Mapping[str, int]
    """`clean` and `stress`: test images behind the scores."""
    data: Mapping[str, Any]
    """`digest`, `size` (as text), `splits` (name -> images), `classes` (how many), `strata` (name -> split -> images) and
    `words` for one and many of them: `CLASSES` or `STRATA`."""
    candidates: Mapping[str, Mapping[str, Any]]
    """As in the facts of `evaluate`."""
    strata: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Stratum -> candidate -> value, low, high of the headline."""
    conditions: tuple[Mapping[str, Any], ...]
    """`name`, `family`, `unit` and `strengths` of each."""
    contract: Mapping[str, Any]
    """`file`, `digest`, `inputs` and `outputs` (name, type, shape), `metadata`."""
    lineage: Mapping[str, str]
    """Stage -> digest of its artifact."""
    training: Mapping[str, Any]
    """How the networks were trained, nested; empty where nobody told."""
    plots: tuple[Plot, ...]


def read_card(path: Path) -> Card:
    """The record that `write_card` left."""
    found = json.loads(path.read_text(encoding="utf-8"))
    plots = tuple(Plot(**plot) for plot in found.pop("plots"))
    return Card(**{**found, "plots": plots, "conditions": tuple(found["conditions"])})


def write_record(folder: Path, card: Card) -> None:
    """Leave `card.json`, from which the card can be written again."""
    write_atomically(folder / RECORD, json.dumps(asdict(card), indent=2) + "\n")


def write_card(
    folder: Path, card: Card, *, latency: Mapping[str, Any] | None = None, name: str | None = None
) -> None:
    """Leave `card.html` and `card.md` in a folder that holds the card's plots.

    Args:
        folder: Where the plots are and the card goes.
        card: What it says.
        latency: As in `reports/latency.json`; None leaves speed out.
        name: Of the model.
    """
    from jinja2 import Environment, StrictUndefined

    one, many = card.data["words"]
    limits = [limit.format(strata=many) for limit in LIMITS]
    facts = {
        "card": card,
        "latency": latency,
        "title": name or f"A {card.kind} model",
        "limits": limits,
        "one": one,
    }
    for file, template, escape in (("card.html", HTML, True), ("card.md", MARKDOWN, False)):
        env = Environment(autoescape=escape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        env.filters |= {
            "percent": percent,
            "spread": spread,
            "bytes": as_bytes,
            "count": as_count,
            "rows": as_rows,
            "cell": lambda value: str(value).replace("|", "\\|"),
            "uri": lambda plot: _as_uri(folder / plot),
        }
        write_atomically(folder / file, env.from_string(template).render(facts).rstrip() + "\n")


def percent(value: float) -> str:
    """A share in per cent, e.g. `92.14`."""
    return f"{100 * value:.2f}"


def spread(found: Mapping[str, float]) -> str:
    """A share with its interval in per cent, e.g. `92.14 (91.60 to 92.68)`."""
    return f"{percent(found['value'])} ({percent(found['low'])} to {percent(found['high'])})"


def as_bytes(value: int) -> str:
    """A size with a readable unit (1 kB = 1000 bytes), e.g. `57.3 kB`."""
    return f"{_scaled(value)}B"


def as_count(value: int) -> str:
    """A large number with a readable unit, e.g. `20.1 M`."""
    return _scaled(value).rstrip()


def as_rows(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted key, value) pairs."""
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
