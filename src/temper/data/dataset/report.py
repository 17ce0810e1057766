"""The data report of prepare: a single HTML file that needs no other files."""

import base64
import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from temper.data.remark import Remark
from temper.inputs.facts import Facts
from temper.inputs.image_input import pixels_of
from temper.problem import Row

DROPPED = "dropped.csv"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
body { color: #222 }
table { border-collapse: collapse; margin: 1rem 0 }
td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd }
td.number { text-align: right; font-variant-numeric: tabular-nums } th { text-align: left }
img { max-width: 100%; image-rendering: pixelated } .more { color: #777 }
"""
_SHOWN = 200
"""Number of dropped examples that the page lists; dropped.csv lists all of them."""


def write_dropped(
    rows: Sequence[Row], dropped: Mapping[int, str], others: Mapping[int, int], path: Path
) -> None:
    """Write a CSV list of the dropped images, with the reasons and the images that they are equal to."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "path", "split", "reason", "other"])
        for i, reason in dropped.items():
            writer.writerow(
                [rows[i].id, rows[i].path, rows[i].split or "", reason, _name(rows, others.get(i))]
            )


def write_report(
    path: Path,
    *,
    counts: Mapping[str, Mapping[str, int]],
    examples: Mapping[str, int],
    facts: Facts,
    rows: Sequence[Row],
    dropped: Mapping[int, str],
    others: Mapping[int, int],
    sheet: Path,
    remarks: Sequence[Remark] = (),
) -> None:
    """Write what was decided without asking, the counts, the sheet of images and the dropped images."""
    splits = list(counts)
    header = ["class", *splits, "all"]
    names = list(counts[splits[0]])
    lines: list[list[str | int]] = [
        [name, *(counts[split][name] for split in splits), sum(counts[split][name] for split in splits)]
        for name in names
    ]
    lines.append(["examples", *(examples[split] for split in splits), sum(examples.values())])
    image = base64.b64encode(sheet.read_bytes()).decode()
    parts = [
        "<h1>Data report</h1>",
        f"<p>{sum(examples.values()):,} examples: "
        f"{escape(', '.join(each.words for each in facts.values()))}. {_levels(facts)}</p>",
        "<h2>Guessed, left out, converted, noticed</h2>",
        *_remarks(remarks, len(dropped)),
        "<h2>Counts</h2>",
        _table(header, lines),
        "<h2>Images</h2>",
        "<p>From the training split, by class.</p>"
        f'<img alt="images by class" src="data:image/png;base64,{image}">',
        "<h2>Dropped</h2>",
        *_dropped(rows, dropped, others),
    ]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Data report</title>'
        f"<style>{_STYLE}</style>"
    )
    path.write_text(page + "\n".join(parts) + "</html>\n", encoding="utf-8")


def _levels(facts: Facts) -> str:
    """Return the statistics of the pixels as text; empty without images."""
    pixels = pixels_of(facts)
    if pixels is None:
        return ""
    pairs = zip(pixels.mean, pixels.std, strict=True)
    means = ", ".join(f"{mean:.1f} ± {std:.1f}" for mean, std in pairs)
    return f"Pixels of the training split (mean ± standard deviation per channel, 0..255): {means}."


def _remarks(remarks: Sequence[Remark], dropped: int) -> list[str]:
    lines: list[list[str | int]] = [
        [
            each.kind,
            each.text,
            each.count or "all",
            ", ".join(each.names) + (", ..." if each.count > len(each.names) else ""),
        ]
        for each in remarks
    ]
    if dropped:
        lines.append(["left out", "images that cannot be used or occur twice, listed below", dropped, ""])
    if not lines:
        return ["<p>Nothing: every file was read as it is.</p>"]
    return [_table(["", "what", "files", "names"], lines)]


def _name(rows: Sequence[Row], number: int | None) -> str:
    return "" if number is None else rows[number].id


def _dropped(rows: Sequence[Row], dropped: Mapping[int, str], others: Mapping[int, int]) -> list[str]:
    if not dropped:
        return ["<p>None: every image was usable, and no two images are equal.</p>"]
    # The reasons of bad images contain numbers and so often differ; the table counts them without grouping.
    reasons = Counter(dropped.values()).most_common(20)
    shown = list(dropped.items())[:_SHOWN]
    parts = [
        _table(["reason", "images"], [[reason, count] for reason, count in reasons]),
        _table(
            ["image", "in artifacts/ingest", "split", "reason", "other image"],
            [
                [rows[i].id, rows[i].path, rows[i].split or "", reason, _name(rows, others.get(i))]
                for i, reason in shown
            ],
        ),
    ]
    if len(dropped) > _SHOWN:
        parts.append(f'<p class="more">… and {len(dropped) - _SHOWN} more: {DROPPED}</p>')
    return parts


def _table(header: Sequence[str], lines: Sequence[Sequence[str | int]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(_cell(value) for value in line) + "</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: str | int) -> str:
    return f'<td class="number">{value:,}</td>' if isinstance(value, int) else f"<td>{escape(value)}</td>"
