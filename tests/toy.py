"""One table of toy settings; the laws run over every member."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from temper.data.loading.loader import as_batch
from temper.fields import Frame
from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts, Input
from temper.inputs.image_input import ImageInput
from temper.inputs.table_input import TableInput
from temper.inputs.text_input import TextInput
from temper.networks.build import build_network
from temper.networks.index import Indexed
from temper.networks.params import AnyBackbone, SmallResNet, SmallVGG, StemParams, TextConvolutions
from temper.problem import Inputs, Outputs, Problem, Row, Targets
from temper.problems.detection import SHAPES, Detection
from temper.problems.keypoints import Keypoints
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.regression import Regression
from temper.problems.retrieval import Retrieval
from temper.problems.segmentation import Segmentation
from temper.stress.pool import Pool
from tests.toy_boxes import CLASSES, SIZE, answer_boxes, draw_bands, draw_boxes

BACKBONE = SmallResNet(family="small-resnet", widths=(8, 16), depths=(1, 1))
HALVING = SmallVGG(family="small-vgg", stem=StemParams(whitened=False), widths=(16, 32), depths=(1, 1))
"""A backbone whose finest map is half as high and wide as the image."""
FRAME = Frame(SIZE, SIZE)
IMAGE = ImageInput(SIZE, SIZE, 3, (127.0, 127.0, 127.0), (60.0, 60.0, 60.0))
FACTS: Facts = {"image": IMAGE}


@dataclass(frozen=True)
class Toy:
    """A problem with what the laws need to try it."""

    problem: Problem
    truth: Callable[[np.random.Generator], tuple[Row, dict[str, np.ndarray]]]
    """A random row with its decoded images."""
    say: Callable[[Targets], Outputs]
    """Outputs that say the truth, loudly."""
    best: Mapping[str, float] = field(default_factory=dict)
    """Best value of the scores whose best value is not 1."""
    named: Callable[[tuple[str, ...]], dict[str, object]] = lambda names: {"classes": names}
    """Fields of the problem with other names of what it tells apart."""
    facts: Mapping[str, Input] = field(default_factory=lambda: FACTS)
    """Its inputs."""
    backbone: AnyBackbone = BACKBONE
    """Encoder of the first input."""
    head: Mapping[str, object] = field(default_factory=dict)
    """Settings of the head."""

    def batch(self, size: int = 16, seed: int = 0) -> tuple[Inputs, Targets]:
        """Random images with a truth that can be seen in them."""
        generator = np.random.default_rng(seed)
        packed = []
        for _ in range(size):
            row, images = self.truth(generator)
            given = json.loads(row.given or "{}")
            inputs = {
                name: images[name] if each.from_file else each.decode(given[name])
                for name, each in self.facts.items()
            }
            packed.append({**inputs, **self.problem.pack(row, images, FRAME)})
        columns = {
            name: torch.from_numpy(np.stack([example[name] for example in packed])) for name in packed[0]
        }
        return as_batch(columns, self.facts)

    def network(self, seed: int = 0) -> nn.Module:
        """A small fresh network."""
        return build_network(self.problem, self.backbone, self.facts, seed=seed, head=self.head)

    def settle(self, network: nn.Module) -> None:
        """Fill the index of a network that has one, as training does before it is scored."""
        if isinstance(network, Indexed):
            inputs, targets = self.batch(64, seed=1)
            (column,) = self.problem.truth
            numbers, places = network.index.choose(targets[column])
            directions = torch.zeros_like(network.index.directions)
            with torch.inference_mode():
                directions[places] = network.embed(inputs)[numbers]
                network.index.write(directions, directions.any(dim=1))

    def as_sent(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """Inputs in the form that a deployed file takes."""
        return {
            name: (value.movedim(-3, -1) if self.facts[name].from_file else value).contiguous().numpy()
            for name, value in inputs.items()
        }


def pool_of(images: np.ndarray, boxes: torch.Tensor | None = None) -> Pool:
    """Return images, uint8 [images, height, width, channels], as a pool, with the boxes of their objects."""
    return Pool({"image": images}, {"image": ImageInput(*images.shape[1:])}, boxes)


def _multiclass(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    label = int(generator.integers(3))
    return Row("x", "x", (CLASSES[label],)), {"image": draw_bands(generator, [label])}


def _with_words(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    row, images = _multiclass(generator)
    number = CLASSES.index(row.labels[0])
    openings = ("a", "this is a", "look, one")
    size = None if generator.random() < 0.2 else number + float(generator.normal(0, 0.2))
    given = {
        "text": f"{openings[generator.integers(3)]} {row.labels[0]}",
        "table": {"size": size, "noise": float(generator.normal())},
    }
    return replace(row, given=json.dumps(given)), images


def _clip(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    """Three frames, each with a band of another colour; only their order shows the label."""
    label = int(generator.integers(3))
    frames = [draw_bands(generator, [(label + step) % 3]) for step in range(3)]
    return Row("x", "x", (CLASSES[label],)), {"clip": np.stack(frames)}


def _multilabel(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    shown = [number for number in range(3) if generator.random() < 0.5]
    return Row("x", "x", tuple(CLASSES[number] for number in shown)), {"image": draw_bands(generator, shown)}


def _segmentation(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    image, mask = draw_bands(generator, []), np.zeros((SIZE, SIZE), np.uint8)
    top, left, number = *generator.integers(0, SIZE // 2, 2), int(generator.integers(1, 3))
    place = (slice(top, top + SIZE // 2), slice(left, left + SIZE // 2))
    image[(*place, number)] += 150
    mask[place] = number
    mask[0, 0] = 255
    return Row("x", "x", mask="m"), {"image": image, "mask": mask}


def _regression(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    shown, side = generator.choice(3), int(generator.integers(2, SIZE + 1))
    image = draw_bands(generator, [])
    image[:side, :side, shown] += 150
    return Row("x", "x", truth=json.dumps({"side": side, "shade": float(shown)})), {"image": image}


def _keypoints(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    image, places = draw_bands(generator, []), generator.integers(1, SIZE - 1, (3, 2))
    for shade, (across, down) in enumerate(places.tolist()):
        image[down - 1 : down + 1, across - 1 : across + 1, shade] += 150
    points = dict(zip(("left", "right", "middle"), places.tolist(), strict=True))
    if generator.random() < 0.2:
        points["middle"] = None
    return Row("x", "x", truth=json.dumps({"points": points})), {"image": image}


def _point_at(true: Targets) -> Outputs:
    """Heat maps of 6 x 6 cells with offsets, on which each point is certain."""
    cells = true["points"] * 6
    place = cells.floor().clamp(max=5)
    heat = torch.zeros(*cells.shape[:2], 36)
    heat.scatter_(2, (place[..., 1] * 6 + place[..., 0]).long()[..., None], 30.0)
    offset = (cells - place - 0.5)[..., None, None].expand(*cells.shape, 6, 6)
    return {"heat": heat.unflatten(2, (6, 6)), "offset": offset}


def _nearest_to(true: Targets) -> Outputs:
    """Logits, and similarities to twelve examples of each item, that are certain of the true one."""
    own = nn.functional.one_hot(true["item"], 3).float() * 2 - 1
    return {"logits": 20 * own, "similarities": own.repeat_interleave(12, dim=1)}


def _one_hot(labels: Tensor) -> Tensor:
    safe = labels.where(labels != 255, labels.new_zeros(()))
    return 20.0 * nn.functional.one_hot(safe, 3).movedim(-1, 1).float()


TOYS = {
    "multiclass": Toy(
        Multiclass(kind="multiclass", classes=CLASSES),
        _multiclass,
        lambda true: {"logits": _one_hot(true["label"])},
    ),
    "text": Toy(
        Multiclass(kind="multiclass", inputs=("text",), classes=CLASSES),
        _with_words,
        lambda true: {"logits": _one_hot(true["label"])},
        facts={"text": TextInput(24)},
        backbone=TextConvolutions(family="text-convolutions", widths=(16, 16)),
    ),
    "three inputs": Toy(
        Multiclass(kind="multiclass", inputs=("image", "text", "table"), classes=CLASSES),
        _with_words,
        lambda true: {"logits": _one_hot(true["label"])},
        facts={
            "image": IMAGE,
            "text": TextInput(24),
            "table": TableInput(("size", "noise"), (1.0, 0.0), (0.8, 1.0)),
        },
    ),
    "clip": Toy(
        Multiclass(kind="multiclass", inputs=("clip",), classes=CLASSES),
        _clip,
        lambda true: {"logits": _one_hot(true["label"])},
        facts={"clip": ClipInput.of(IMAGE, 3)},
    ),
    "multilabel": Toy(
        Multilabel(kind="multilabel", classes=CLASSES),
        _multilabel,
        lambda true: {"logits": 40 * true["labels"] - 20},
    ),
    "segmentation": Toy(
        Segmentation(kind="segmentation", classes=("background", *CLASSES[:2])),
        _segmentation,
        lambda true: {"logits": _one_hot(true["mask"])},
    ),
    "segmentation at full resolution": Toy(
        Segmentation(kind="segmentation", classes=("background", *CLASSES[:2])),
        _segmentation,
        lambda true: {"logits": _one_hot(true["mask"])},
        backbone=HALVING,
        head={"full_resolution": True},
    ),
    "regression": Toy(
        Regression(
            kind="regression",
            quantities=("side", "shade"),
            unit="px",
            centres=(7.0, 1.0),
            spreads=(3.0, 0.8),
            deviations=(2.5, 0.7),
            edges=(4.0, 7.0, 10.0),
        ),
        _regression,
        lambda true: {"values": (true["values"] - torch.tensor([7.0, 1.0])) / torch.tensor([3.0, 0.8])},
        {"mae": 0.0, "rmse": 0.0, "mae_side": 0.0, "mae_shade": 0.0},
        lambda names: {
            "quantities": names,
            "centres": (0.0,) * len(names),
            "spreads": (1.0,) * len(names),
        },
    ),
    "detection": Toy(
        Detection(kind="detection", classes=CLASSES, cells_px=(2, 4), most=10, room=2),
        draw_boxes,
        answer_boxes,
    ),
    "detection by shapes": Toy(
        Detection(kind="detection", method="ssd", classes=CLASSES, cells_px=(1,), most=10, room=2),
        draw_boxes,
        lambda true: answer_boxes(true, (12,), SHAPES["ssd"]),
    ),
    "retrieval": Toy(
        Retrieval(kind="retrieval", items=CLASSES),
        _multiclass,
        _nearest_to,
        named=lambda names: {"items": names},
    ),
    "keypoints": Toy(
        Keypoints(kind="keypoints", points=("left", "right", "middle"), cell_px=2),
        _keypoints,
        _point_at,
        named=lambda names: {"points": names},
    ),
}
