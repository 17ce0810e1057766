"""Loads pretrained weights into a network.

A network takes the tensors that fit by name and shape. Names are compared without the prefixes that wrap a
backbone (`module.`, `model.`). timm's feature extractors flatten `stages.0` to `stages_0`; both names count
as the same. Tensors whose shapes differ only because of the images (another number of channels, a position
embedding for another size) are adapted. All other tensors keep their initial values. A report lists every
tensor and how it was used. It is an error if too few tensors are found.
"""

from collections.abc import Iterable, Mapping, Sequence
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
    """How a network used pretrained weights."""

    facts: WeightFacts
    """Facts of the weights, with the normalisation that the network now has, as far as it is known."""
    matched: tuple[str, ...]
    """Tensors of the network that were taken unchanged."""
    adapted: tuple[str, ...]
    """Tensors of the network that were taken in another shape, with both shapes."""
    fresh: tuple[str, ...]
    """Tensors of the network that keep their initial values."""
    unused: tuple[str, ...]
    """Tensors of the pretrained weights that have no counterpart in the network."""
    share: float
    """Share of the backbone's numbers that were found, 0..1."""

    def table(self) -> str:
        """Format the report for the terminal: the number of tensors of each kind, and some of their names.

        The names of matched tensors are left out, because they need no attention.
        """
        facts = self.facts
        revision = f"revision {facts.revision[:12]}, " if facts.revision else ""
        lines = [
            f"starting from {facts.origin} ({revision}licence {facts.licence}, SHA-256 {facts.sha256[:12]})"
        ]
        for kind in ("matched", "adapted", "fresh", "unused"):
            names = getattr(self, kind)
            shown = "" if kind == "matched" or not names else f"  {_shorten(names)}"
            lines.append(f"  {kind:<8}{len(names):>5}{shown}")
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """Return the report as JSON values, for an artifact's facts."""
        found = {key: value for key, value in asdict(self).items() if key not in ("facts", "matched")}
        facts = {key: value for key, value in asdict(self.facts).items() if key != "revision" or value}
        return {**facts, **found, "matched": len(self.matched), "share": round(self.share, 4)}


def start_from(network: nn.Module, weights: Weights, params: TransferParams) -> Report:
    """Load pretrained weights into a network, in place.

    Args:
        network: Network with the attribute `backbone`, which normalises pixels in its attribute `normalize`.
        weights: Weights of another whole network of temper, or of the same backbone with timm's tensor names.
        params: Parameters that say how much must be found and whether the head is taken.

    Returns:
        A report on every tensor.

    Raises:
        ValueError: If less of the backbone than `params.least_share` was found, or nothing of it.
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
            f"only {share:.1%} of the backbone was found in {weights.facts.origin} (transfer.least_share is "
            f"{params.least_share}): they are of another network; name weights of the same backbone. "
            f"Tensors of the network without a counterpart: {_shorten(_with_shapes(fresh, own))}; of the "
            f"weights: {_shorten(_with_shapes(unused, weights.tensors))}"
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
    """Return a tensor's name without the prefixes that wrap the backbone, and flat.

    Names from different sources are compared in this form.

    Example:
        >>> canonical("module.stages.0.blocks.1.weight"), canonical("backbone.body.stages_0.blocks.1.weight")
        ('stages_0_blocks_1_weight', 'stages_0_blocks_1_weight')
    """
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in ("module", "backbone", "body", "model"):
        parts = parts[1:]
    return ".".join(parts).replace(".", "_")


def by_canonical(names: Iterable[str]) -> dict[str, str]:
    """Map each name's canonical form to the name.

    Raises:
        ValueError: If two names have the same canonical form.
    """
    found: dict[str, str] = {}
    for name in names:
        if found.setdefault(canonical(name), name) != name:
            raise ValueError(
                f"the weights contain {found[canonical(name)]!r} and {name!r}: "
                "temper cannot tell these names apart; rename or remove one of them"
            )
    return found


def adapt_channels(weight: Tensor, channels: int) -> Tensor:
    """Adapt the weight of a first convolution to images with another number of channels.

    The outputs keep about the same size. A single channel gets the sum of all channels, which has the same
    effect as repeating a grey image in every channel. For more channels, the existing channels repeat in
    turn, multiplied by the old number of channels over the new one.

    Args:
        weight: Weight of shape [outputs, channels, height, width].
        channels: The new number of channels.

    Source:
        `timm.models._manipulate.adapt_input_conv`, which supports three channels only.
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
    """Return a tensor in the wanted shape if the shapes differ only because of the images; otherwise None."""
    if name.startswith(_NORMALIZE):
        return _repeat(found.flatten().tolist(), channels, wanted)
    alike = found.shape[:1] == wanted.shape[:1] and found.shape[2:] == wanted.shape[2:]
    if alike and found.dim() == 4 and wanted.shape[1] == channels:
        return adapt_channels(found, channels)
    if name.endswith("pos_embed") and found.dim() == wanted.dim() == 3 and found.shape[2] == wanted.shape[2]:
        return _resample(found, wanted, network.get_submodule(name.rpartition(".")[0]))
    return None


def _resample(found: Tensor, wanted: Tensor, owner: nn.Module) -> Tensor | None:
    """Resample a position embedding bicubically for images of another size.

    Return None if the old positions form no square, or the new grid is unknown.
    """
    grid = getattr(getattr(owner, "patch_embed", None), "grid_size", None)
    if grid is None:
        return None
    before = wanted.shape[1] - grid[0] * grid[1]  # tokens without a position, e.g. the class token
    side = round((found.shape[1] - before) ** 0.5)
    if before < 0 or side * side != found.shape[1] - before:
        return None
    places = found[:, before:].transpose(1, 2).reshape(1, -1, side, side)
    resized = functional.interpolate(
        places, size=tuple(grid), mode="bicubic", antialias=True, align_corners=False
    )
    return torch.cat([found[:, :before], resized.flatten(2).transpose(1, 2)], dim=1)


def _normalise(network: nn.Module, facts: WeightFacts, channels: int) -> WeightFacts:
    """Make the network normalise pixels as the weights expect; return the facts with that normalisation."""
    mean, std = facts.mean, facts.std
    origin = getattr(network.backbone, "origin", None)
    if not mean and origin is not None:
        # The file has no facts, but timm knows its weights by the backbone's name.
        mean, std = (tuple(255 * value for value in values) for values in (origin.mean, origin.std))
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
            "size_px": facts.size_px or (tuple(origin.input_size[1:]) if origin is not None else ()),
        }
    )


def _repeat(values: Iterable[float], channels: int, like: Tensor) -> Tensor:
    """Adapt per-channel numbers to other channels: their mean for one channel, otherwise repeated in turn."""
    listed = list(values)
    if channels == 1:
        listed = [sum(listed) / len(listed)]
    return torch.tensor([listed[number % len(listed)] for number in range(channels)]).view_as(like).to(like)


def _with_shapes(names: Sequence[str], tensors: Mapping[str, Tensor]) -> list[str]:
    """Return names with the shapes of their tensors, since equal names may have other shapes."""
    return [f"{name} {'x'.join(map(str, tensors[name].shape))}" for name in names]


def _shorten(names: Mapping[str, Any] | Sequence[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more if listed else "none"
