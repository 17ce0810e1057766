"""How pretrained weights enter a network.

A network takes from them what fits by name and shape. Names are compared without what wraps a backbone (`module.`, `model.`), and
timm's feature extractors, which flatten `stages.0` to `stages_0`, count as the same. Shapes that differ only by the images
(another number of channels, a position embedding for another size) are adapted; all else starts fresh. Nothing is silent: a
report says what became of every tensor, and too little found is an error.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from temper.networks.params import TransferParams
from temper.networks.pretrained import WeightFacts, Weights

_NORMALIZE = "backbone.normalize."
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of pretrained weights in a network."""

    facts: WeightFacts
    """Of the weights; with the normalisation that the network now has, as far as it is known."""
    matched: tuple[str, ...]
    """The network's tensors that were taken as they are."""
    adapted: tuple[str, ...]
    """The network's tensors that were taken in another shape, with both shapes."""
    fresh: tuple[str, ...]
    """The network's tensors that start as they were."""
    unused: tuple[str, ...]
    """The weights' tensors that have no place in the network."""
    share: float
    """Of the backbone's numbers, how many were found."""

    def table(self) -> str:
        """For the terminal: how many tensors of each fate, and the first of those that need a look."""
        facts = self.facts
        revision = f"revision {facts.revision[:12]}, " if facts.revision else ""
        lines = [
            f"starting from {facts.origin} ({revision}licence {facts.licence}, SHA-256 {facts.sha256[:12]})"
        ]
        for fate in ("matched", "adapted", "fresh", "unused"):
            names = getattr(self, fate)
            shown = "" if fate == "matched" or not names else f"  {_shorten(names)}"
            lines.append(f"  {fate:<8}{len(names):>5}{shown}")
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """For an artifact's facts: JSON values."""
        found = {key: value for key, value in asdict(self).items() if key not in ("facts", "matched")}
        facts = {key: value for key, value in asdict(self.facts).items() if key != "revision" or value}
        return {**facts, **found, "matched": len(self.matched), "share": round(self.share, 4)}


def start_from(network: nn.Module, weights: Weights, params: TransferParams) -> Report:
    """Put pretrained weights into a network, in place.

    Args:
        network: Its backbone is its attribute `backbone`, which normalises its pixels in `normalize`.
        weights: Of another network of temper's (whole), or of the same backbone as timm names its tensors.
        params: How much must be found, and whether the head is taken.

    Returns:
        What became of every tensor.

    Raises:
        ValueError: If less of the backbone than `params.least_share` was found.
    """
    own = network.state_dict()
    known = by_canonical(
        name for name in weights.tensors if name.startswith("backbone.") or not _is_ours(weights)
    )
    kept = by_canonical(name for name in weights.tensors if not name.startswith("backbone."))
    channels = int(own[f"{_NORMALIZE}mean"].shape[1])
    taken: dict[str, Tensor] = {}
    used, matched, adapted = set(), [], []
    for name, value in own.items():
        inside = name.startswith("backbone.")
        source = (known if inside else kept if params.keep_head else {}).get(canonical(name))
        if source is None:
            continue
        found = weights.tensors[source]
        fitted = found if found.shape == value.shape else _adapt(found, value, name, network, channels)
        if fitted is None:
            continue
        taken[name] = fitted
        used.add(source)
        if fitted is found:
            matched.append(name)
        else:
            adapted.append(f"{name} {tuple(found.shape)} to {tuple(value.shape)}")
    numbers = {name: value.numel() for name, value in own.items() if _counts(name)}
    share = sum(numbers[name] for name in taken if name in numbers) / sum(numbers.values())
    fresh = tuple(name for name in own if name not in taken and not name.startswith(_NORMALIZE))
    unused = tuple(name for name in weights.tensors if name not in used)
    if share < params.least_share or not share:
        raise ValueError(
            f"only {share:.1%} of the backbone was found in {weights.facts.origin}, transfer.least_share asks for "
            f"{params.least_share:.0%}: the network has {_shorten(fresh)}, the weights have {_shorten(unused)}; name weights of the "
            "same backbone"
        )
    network.load_state_dict({**own, **taken})
    if f"{_NORMALIZE}mean" in taken:
        mean, scale = (taken[f"{_NORMALIZE}{name}"].flatten() for name in ("mean", "scale"))
        facts = replace(weights.facts, mean=tuple(mean.tolist()), std=tuple((1 / scale).tolist()))
    else:
        facts = _normalise(network, weights.facts, channels)
    return Report(
        facts=facts, matched=tuple(matched), adapted=tuple(adapted), fresh=fresh, unused=unused, share=share
    )


def canonical(name: str) -> str:
    """A tensor's name without what wraps the backbone, and flat, by which names from different places are compared.

    Example:
        >>> canonical("module.stages.0.blocks.1.weight"), canonical("backbone.body.stages_0.blocks.1.weight")
        ('stages_0_blocks_1_weight', 'stages_0_blocks_1_weight')
    """
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in ("module", "backbone", "body", "model"):
        parts = parts[1:]
    return ".".join(parts).replace(".", "_")


def by_canonical(names: Iterable[str]) -> dict[str, str]:
    """Canonical name -> name.

    Raises:
        ValueError: If two names become one.
    """
    found: dict[str, str] = {}
    for name in names:
        if found.setdefault(canonical(name), name) != name:
            raise ValueError(
                f"the weights hold {name!r} and {found[canonical(name)]!r}: temper takes them for one"
            )
    return found


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """The weight of a first convolution for images of another number of channels, with outputs of about the same size.

    One channel gets the sum of all, which is the same as showing a grey image in every channel; for more channels those there are
    repeat in turn, scaled by old over new.

    Args:
        weight: Shape [outputs, channels, height, width].
        channels: Wanted.

    Source:
        `timm.models._manipulate.adapt_input_conv`, which knows three channels only.
    """
    before = weight.shape[1]
    if channels == 1:
        return weight.sum(dim=1, keepdim=True)
    return weight[:, [number % before for number in range(channels)]] * (before / channels)


def _is_ours(weights: Weights) -> bool:
    return f"{_NORMALIZE}mean" in weights.tensors


def _counts(name: str) -> bool:
    return (
        name.startswith("backbone.")
        and not name.startswith(_NORMALIZE)
        and not name.endswith("num_batches_tracked")
    )


def _adapt(found: Tensor, wanted: Tensor, name: str, network: nn.Module, channels: int) -> Tensor | None:
    """A tensor in the shape that is wanted, where it differs only by the images; else None."""
    if name.startswith(_NORMALIZE):
        return _repeat(found.flatten().tolist(), channels, wanted)
    alike = found.shape[:1] == wanted.shape[:1] and found.shape[2:] == wanted.shape[2:]
    if alike and found.dim() == 4 and wanted.shape[1] == channels:
        return adapt_channels(found, channels)
    if name.endswith("pos_embed") and found.dim() == wanted.dim() == 3 and found.shape[2] == wanted.shape[2]:
        return _resample(found, wanted, network.get_submodule(name.rpartition(".")[0]))
    return None


def _resample(found: Tensor, wanted: Tensor, owner: nn.Module) -> Tensor | None:
    """A position embedding for images of another size, bicubic; None where its places form no square or grid that is known."""
    grid = getattr(getattr(owner, "patch_embed", None), "grid_size", None)
    if grid is None:
        return None
    before = wanted.shape[1] - grid[0] * grid[1]  # tokens that have no place, e.g. the class's
    side = round((found.shape[1] - before) ** 0.5)
    if before < 0 or side * side != found.shape[1] - before:
        return None
    places = found[:, before:].transpose(1, 2).reshape(1, -1, side, side)
    resized = functional.interpolate(
        places, size=tuple(grid), mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([found[:, :before], resized.flatten(2).transpose(1, 2)], dim=1)


def _normalise(network: nn.Module, facts: WeightFacts, channels: int) -> WeightFacts:
    """Let the network normalise pixels as the weights are used to; returns the facts with that."""
    mean, std = facts.mean, facts.std
    said = getattr(network.backbone, "origin", None)
    if not mean and said is not None:
        # A file of weights that timm knows by the backbone's name.
        mean, std = (tuple(255 * value for value in values) for values in (said.mean, said.std))
    if not mean:
        return facts
    own = network.state_dict()
    own[f"{_NORMALIZE}mean"] = _repeat(mean, channels, own[f"{_NORMALIZE}mean"])
    own[f"{_NORMALIZE}scale"] = 1 / _repeat(std, channels, own[f"{_NORMALIZE}scale"])
    network.load_state_dict(own)
    return WeightFacts(
        **{
            **asdict(facts),
            "mean": tuple(own[f"{_NORMALIZE}mean"].flatten().tolist()),
            "std": tuple(_repeat(std, channels, own[f"{_NORMALIZE}scale"]).flatten().tolist()),
            "size_px": facts.size_px or (tuple(said.input_size[1:]) if said is not None else ()),
        }
    )


def _repeat(values: Iterable[float], channels: int, like: Tensor) -> Tensor:
    """Per-channel numbers for another number of channels: their mean for one, else they repeat in turn."""
    listed = list(values)
    if channels == 1:
        listed = [sum(listed) / len(listed)]
    return torch.tensor([listed[number % len(listed)] for number in range(channels)]).view_as(like).to(like)


def _shorten(names: Mapping[str, Any] | tuple[str, ...]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more if listed else "nothing else"
