import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from temper.data.images.encoded import BYTES, Encoded, EncodedWriter
from temper.data.loading.loader import Examples, TrainLoader, to_tensors
from temper.data.loading.params import ViewParams
from temper.data.loading.prefetch import Stream, count_workers
from temper.fields import Field
from temper.inputs.image_input import ImageInput
from temper.problem import Batch

MASK = {"mask": Field("map")}
FACTS = {"image": ImageInput(8, 8, 3, mean=(1.0, 2.0, 3.0))}
NUM, BATCH = 40, 8
CPU = torch.device("cpu")
ALL_VIEWS: dict[str, Any] = {"flip": True, "crop_px": 2, "cutout_px": 2, "mixup": 1.0, "cutmix": 1.0}
CROPS: dict[str, Any] = {**ALL_VIEWS, "crop_scale": (0.3, 1.0)}


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (NUM, 6, 5, 3), dtype=np.uint8)


def columns() -> dict[str, np.ndarray]:
    return {"image": pixels(), "label": np.arange(NUM), "mask": pixels()[..., 0].copy()}


def png(image: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(image).save(target, "PNG")
    return target.getvalue()


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    folder = tmp_path_factory.mktemp("data") / "encoded"
    with EncodedWriter(folder) as writer:
        for image in pixels():
            writer.add(png(image), image.shape[:2])
    return Encoded(folder, height_px=6, width_px=5, channels=3)


def loader(
    views: ViewParams,
    images: Encoded | np.ndarray | None = None,
    workers: int = 2,
    rank: int = 0,
    num_ranks: int = 1,
) -> TrainLoader:
    given = columns()
    stream = None
    if images is not None:
        masks = {"mask": given.pop("mask")}
        del given["image"]
        stream = Stream(
            "image",
            images,
            masks,
            MASK,
            views,
            seed=0,
            workers=workers,
            ids=lambda: [f"id {i}" for i in range(NUM)],
        )
    return TrainLoader(
        to_tensors(given, CPU),
        Examples(
            np.ones(NUM, int),
            np.arange(NUM) / NUM,
            {"image": ImageInput(8, 8, 3, mean=(1.0, 2.0, 3.0))},
            MASK,
        ),
        batch_size=BATCH,
        device=CPU,
        views=views,
        seed=0,
        rank=rank,
        num_ranks=num_ranks,
        stream=stream,
    )


def tensors(batch: Batch) -> dict[str, torch.Tensor]:
    parts = {"weights": batch.weights, **batch.inputs, **batch.targets}
    parts |= {f"other {name}": value for name, value in (batch.others or {}).items()}
    return parts if batch.shares is None else {**parts, "shares": batch.shares}


def assert_equal(some: list[Batch], others: list[Batch]) -> None:
    assert len(some) == len(others) > 0
    for one, other in zip(map(tensors, some), map(tensors, others), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("views", [{}, ALL_VIEWS, {**ALL_VIEWS, "mix_share": 1.0}])
def test_streamed_images_are_those_in_memory(encoded: Encoded, views: dict[str, Any]):
    in_memory = loader(ViewParams(**views))
    for epoch in (0, 1):
        whole = list(in_memory.batches(epoch))
        assert_equal(list(loader(ViewParams(**views), encoded).batches(epoch)), whole)
        assert_equal(list(loader(ViewParams(**views), pixels()).batches(epoch)), whole)


def test_batches_do_not_depend_on_workers_or_on_where_an_epoch_is_resumed(encoded: Encoded):
    one = list(loader(ViewParams(**CROPS), encoded, workers=1).batches(2))
    assert_equal(list(loader(ViewParams(**CROPS), encoded, workers=4).batches(2)), one)
    assert_equal(list(loader(ViewParams(**CROPS), encoded, workers=3).batches(2, start=3)), one[3:])


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_together_see_what_one_sees(encoded: Encoded, num_ranks: int):
    alone = list(loader(ViewParams(**CROPS), encoded).batches(3))
    parts = [
        list(loader(ViewParams(**CROPS), encoded, 1, rank, num_ranks).batches(3)) for rank in range(num_ranks)
    ]
    for number, whole in enumerate(alone):
        found = [tensors(part[number]) for part in parts]
        assert all(
            torch.equal(torch.cat([each[name] for each in found]), value)
            for name, value in tensors(whole).items()
        )


def test_a_policy_is_the_same_in_any_number_of_processes_and_masks_move_along(encoded: Encoded):
    views = ViewParams(
        policy=({"name": "Rotate", "p": 1.0, "border_mode": 2}, {"name": "VerticalFlip"}),
        crop_scale=(0.5, 1.0),
    )
    one = list(loader(views, encoded, workers=1).batches(0))
    assert_equal(list(loader(views, encoded, workers=2).batches(0, start=2)), one[2:])
    plain = list(loader(ViewParams(crop_scale=(0.5, 1.0)), encoded).batches(0))
    assert not torch.equal(one[0].inputs["image"], plain[0].inputs["image"])
    flipping = ViewParams(policy=({"name": "HorizontalFlip", "p": 0.5},))
    for batch in loader(flipping, pixels(), workers=1).batches(0):
        assert torch.equal(batch.inputs["image"][:, 0].long(), batch.targets["mask"])
        own = torch.from_numpy(pixels())[batch.targets["label"]].permute(0, 3, 1, 2)
        straight = (batch.inputs["image"] == own).flatten(1).all(dim=1)
        mirrored = (batch.inputs["image"] == own.flip(3)).flatten(1).all(dim=1)
        assert (straight | mirrored).all()


def test_masks_are_cut_like_their_images():
    image = np.zeros((1, 40, 40, 1), np.uint8)
    image[0, 10:25, 5:30] = 200
    mask = (image[..., 0] > 100).astype(np.uint8)
    stream = Stream(
        "image", image, {"mask": mask}, MASK, ViewParams(crop_scale=(0.2, 0.9)), seed=0, workers=1
    )
    given = TrainLoader(
        {"label": torch.arange(1)},
        Examples(np.full(1, 64), np.ones(1), {"image": ImageInput(8, 8, 1, mean=(0.0,))}, MASK),
        batch_size=64,
        device=CPU,
        views=ViewParams(),
        seed=0,
        stream=stream,
    )
    batch = next(given.batches(0))
    differ = (
        ((batch.inputs["image"][:, 0] > 100) != batch.targets["mask"].bool()).flatten(1).float().mean(dim=1)
    )
    assert differ.max() < 0.06, "they differ at most by the rounding of edges"
    assert batch.targets["mask"].flatten(1).float().mean(dim=1).std() > 0.1, "the crops differ"


def test_an_epoch_is_a_good_shuffle(encoded: Encoded):
    """Neighbours in the file are not neighbours in an epoch, and each batch is drawn from the whole file."""
    number = 4000
    big = TrainLoader(
        {"image": torch.zeros(number, 1, 1, 1, dtype=torch.uint8), "label": torch.arange(number)},
        Examples(np.ones(number, int), np.ones(number), {"image": ImageInput(8, 8, 1, mean=(0.0,))}),
        batch_size=100,
        device=CPU,
        views=ViewParams(),
        seed=5,
    )
    batches = [batch.targets["label"] for batch in big.batches(0)]
    order = torch.cat(batches)
    assert sorted(order.tolist()) == list(range(number))
    # The rank correlation of a random permutation with the file's order has the standard deviation
    # 1 / sqrt(number).
    assert abs(np.corrcoef(order.numpy(), np.arange(number))[0, 1]) < 4 / number**0.5
    assert ((order[1:] - order[:-1]).abs() == 1).sum() <= 10, "2 are expected"
    quarters = torch.stack([torch.bincount(batch // 1000, minlength=4) for batch in batches]).double()
    # Counts of a quarter are hypergeometric: mean 25, variance 100 * 1/4 * 3/4 * 3900/3999 = 18.3.
    assert quarters.var(unbiased=False).item() == pytest.approx(18.3, rel=0.35)


def test_few_batches_are_on_their_way_and_no_thread_stays(encoded: Encoded):
    before = set(threading.enumerate())
    made = loader(ViewParams(), encoded, workers=2)
    running = made.batches(0)
    next(running)
    assert len(set(threading.enumerate()) - before) <= 2
    running.close()
    del made, running
    assert set(threading.enumerate()) == before


def test_an_image_that_became_unreadable_is_named(tmp_path: Path):
    with EncodedWriter(tmp_path / "encoded") as writer:
        for image in pixels():
            writer.add(png(image), image.shape[:2])
    content = bytearray((tmp_path / "encoded" / BYTES).read_bytes())
    offsets = np.load(tmp_path / "encoded" / "offsets.npy")
    content[offsets[17] : offsets[18]] = bytes(offsets[18] - offsets[17])
    (tmp_path / "encoded" / BYTES).write_bytes(content)
    broken = Encoded(tmp_path / "encoded", height_px=6, width_px=5, channels=3)
    with pytest.raises(ValueError, match=r"'id 17' cannot be read .*neither JPEG nor PNG.*`make pipeline`"):
        list(loader(ViewParams(), broken).batches(0))
    (tmp_path / "encoded" / BYTES).write_bytes(content[: offsets[39]])
    with pytest.raises(ValueError, match=r"'id (17|39)' cannot be read "):
        list(loader(ViewParams(), broken).batches(0))


def test_workers_are_a_ranks_share_of_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [count_workers(0, ranks) for ranks in (1, 2, 16)] == [8, 4, 1]
    assert count_workers(3, 2) == 3
