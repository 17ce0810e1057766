from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from temper.data.augmentation.batch_transforms import (
    boxes,
    cutout,
    draw_moves,
    mirror,
    mix_plan,
    shift_and_flip,
)
from temper.data.dataset.packed import check_batch
from temper.data.loading.loader import Examples, TrainLoader, as_batch, to_tensors, whole_batches
from temper.data.loading.params import ViewParams
from temper.engine.accumulation import MicroBatch
from temper.engine.distributed.ranks import join_ranks
from temper.fields import Field
from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts
from temper.inputs.image_input import ImageInput

FACTS = {"image": ImageInput(8, 8, 3, mean=(1.0, 2.0, 3.0))}
FILL = FACTS["image"]
NUM = 40


def columns() -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (NUM, 6, 5, 3), dtype=np.uint8)
    mask = image[..., 0].copy()
    return to_tensors({"image": image, "label": np.arange(NUM), "mask": mask}, torch.device("cpu"))


def loader(
    rank: int = 0, num_ranks: int = 1, views: ViewParams | None = None, repeats: np.ndarray | None = None
) -> TrainLoader:
    repeats = np.ones(NUM, int) if repeats is None else repeats
    return TrainLoader(
        columns(),
        Examples(repeats, np.arange(NUM) / NUM, FACTS, {"mask": Field("map")}),
        batch_size=8,
        device=torch.device("cpu"),
        views=views or ViewParams(flip=True, crop_px=2, cutout_px=2, mixup=1.0, cutmix=1.0),
        seed=0,
        rank=rank,
        num_ranks=num_ranks,
    )


def clip_loader(given: dict[str, torch.Tensor], facts: Facts, on: dict[str, Any]) -> TrainLoader:
    examples = Examples(np.ones(NUM, int), np.ones(NUM), facts)
    views, device = ViewParams(**on, mix_share=1.0), torch.device("cpu")
    given = {**given, "label": torch.arange(NUM)}
    return TrainLoader(given, examples, batch_size=8, device=device, views=views, seed=0)


def test_an_epoch_sees_every_example_once_and_another_order_each_time():
    plain = loader(views=ViewParams())
    epochs = [torch.cat([batch.targets["label"] for batch in plain.batches(epoch)]) for epoch in (0, 1)]
    assert all(sorted(epoch.tolist()) == list(range(NUM)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_repeats_are_drawn_so_often_and_nothing_else():
    repeats = np.zeros(NUM, int)
    repeats[[3, 7]] = (10, 6)
    seen = torch.cat(
        [batch.targets["label"] for batch in loader(views=ViewParams(), repeats=repeats).batches(0)]
    )
    assert torch.bincount(seen, minlength=NUM).tolist() == repeats.tolist()


def test_weights_go_with_their_examples():
    for batch in loader(views=ViewParams()).batches(0):
        torch.testing.assert_close(batch.weights, batch.targets["label"] / NUM)


@pytest.mark.parametrize("num_ranks", [1, 3])
def test_each_draw_has_a_number_of_its_own_whatever_the_ranks_and_parts(num_ranks: int, tmp_path: Path):
    plain = ViewParams()
    found = []
    for epoch in (0, 1):
        parts = [list(loader(rank, num_ranks, plain).batches(epoch)) for rank in range(num_ranks)]
        found += [batch.keys for number in range(5) for part in parts for batch in [part[number]]]
    assert torch.equal(torch.cat(found), torch.arange(2 * NUM))
    again = next(loader(views=plain).batches(1, start=2)).keys
    assert again is not None and again.tolist() == list(range(NUM + 16, NUM + 24))
    mixed = next(loader().batches(0))
    assert mixed.keys is not None and len(mixed.keys) == len(mixed.weights) == 8
    (tmp_path / "micro-batch.json").write_text('{"examples": 3}')
    micro = MicroBatch(tmp_path, join_ranks(), batch_size=8)
    cut = [part.keys for part, _ in micro.split(mixed)]
    assert len(cut) > 1 and torch.equal(torch.cat(cut), mixed.keys)


@pytest.mark.parametrize("num_ranks", [2, 3, 5])
def test_ranks_together_see_what_one_sees(num_ranks: int):
    alone = list(loader().batches(3))
    parts = [list(loader(rank, num_ranks).batches(3)) for rank in range(num_ranks)]
    for number, whole in enumerate(alone):
        together = [part[number] for part in parts]
        assert torch.equal(torch.cat([part.inputs["image"] for part in together]), whole.inputs["image"])
        assert torch.equal(torch.cat([part.targets["mask"] for part in together]), whole.targets["mask"])
        if whole.others is not None:
            for key in whole.others:
                assert torch.equal(torch.cat([part.others[key] for part in together]), whole.others[key])  # type: ignore[index]


def test_a_resumed_epoch_goes_on_with_the_same_batches():
    whole, late = list(loader().batches(1)), list(loader().batches(1, start=3))
    assert len(late) == len(whole) - 3
    assert all(
        torch.equal(a.inputs["image"], b.inputs["image"]) for a, b in zip(whole[3:], late, strict=True)
    )


def test_masks_move_along_with_their_images():
    for epoch in (0, 1):
        for batch in loader(views=ViewParams(flip=True, crop_px=2)).batches(epoch):
            assert torch.equal(batch.inputs["image"][:, 0].long(), batch.targets["mask"])


def test_cutmix_pastes_masks_and_shares_the_rest_by_area():
    only = ViewParams(cutmix=1.0, mix_share=1.0)
    for batch in loader(views=only).batches(0):
        assert torch.equal(batch.inputs["image"][:, 0].long(), batch.targets["mask"])
        assert batch.others is not None and batch.shares is not None
        assert torch.equal(batch.others["mask"], batch.targets["mask"])
        own = columns()["mask"][batch.targets["label"]].long()
        kept = (batch.targets["mask"] == own).flatten(1).float().mean(dim=1)
        assert (kept >= batch.shares - 1e-6).all()


def test_mixup_blends_images_and_keeps_both_truths():
    for batch in loader(views=ViewParams(mixup=1.0, mix_share=1.0)).batches(0):
        assert batch.others is not None and batch.shares is not None
        own, other = (columns()["image"][rows["label"]].float() for rows in (batch.targets, batch.others))
        share = batch.shares.view(-1, 1, 1, 1)
        torch.testing.assert_close(
            batch.inputs["image"].permute(0, 2, 3, 1), own * share + other * (1 - share)
        )


def test_flips_alternate_from_epoch_to_epoch():
    image, rows = columns()["image"], torch.arange(NUM)
    params = ViewParams(flip=True)
    moves = [draw_moves(rows, rows, params, seed=0, epoch=epoch) for epoch in (0, 1, 2)]
    views = [shift_and_flip({"image": image}, rows, each, params)["image"] for each in moves]
    assert torch.equal(views[0], views[2])
    assert torch.equal(views[0].flip(2), views[1])
    straight = (views[0] == image).flatten(1).all(dim=1).float().mean()
    assert 0.2 < straight < 0.8


@pytest.mark.parametrize("at_once", [1 << 22, 250])
def test_images_and_masks_are_cut_out_of_mirrored_ones_and_flipped(
    monkeypatch: pytest.MonkeyPatch, at_once: int
):
    monkeypatch.setattr("temper.data.augmentation.batch_transforms._VALUES_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (20, 5, 7, 3), dtype=torch.uint8, generator=generator)
    mask = torch.randint(0, 9, (20, 5, 7), dtype=torch.uint8, generator=generator)
    rows, params = torch.tensor([3, 19, 3, 0, 7, 11]), ViewParams(flip=True, crop_px=2)
    moves = draw_moves(rows, torch.arange(6), params, seed=0, epoch=0)
    assert moves is not None and len(moves.unique(dim=0)) > 3
    found = shift_and_flip({"image": image, "mask": mask}, rows, moves, params)
    for place, (row, (down, move)) in enumerate(zip(rows.tolist(), moves.tolist(), strict=True)):
        right, flipped = divmod(move, 2)
        for name, column in (("image", image[row]), ("mask", mask[row][..., None])):
            padded = torch.nn.functional.pad(
                column.permute(2, 0, 1)[None].float(), (2, 2, 2, 2), mode="reflect"
            )[0]
            wanted = padded[:, down : down + 5, right : right + 7].permute(1, 2, 0)
            wanted = wanted.flip(1) if flipped else wanted
            assert torch.equal(found[name][place].view(5, 7, -1).float(), wanted), (name, place)


def test_shifts_mirror_at_the_edges():
    assert mirror(torch.tensor([-2, -1, 0, 3, 4, 5]), 4).tolist() == [2, 1, 0, 3, 2, 1]
    assert mirror(torch.tensor([-1, 0, 1]), 1).tolist() == [0, 0, 0]


def test_cutout_wipes_out_a_square():
    wiped, filled = cutout(
        torch.full((50, 9, 9, 1), 200, dtype=torch.uint8), torch.arange(50), 3, torch.tensor([7]), seed=0
    )
    counts = (wiped == 7).flatten(1).sum(dim=1)
    assert counts.max() == 9 and (counts > 0).all()
    assert torch.equal(filled, (wiped == 7)[..., 0])
    assert boxes(torch.tensor([[0.5, 0.5]]), torch.tensor([[2.0, 2.0]]), 4, 4)[0].int().tolist() == [
        [0, 0, 0, 0],
        [0, 1, 1, 0],
        [0, 1, 1, 0],
        [0, 0, 0, 0],
    ]


def test_mixing_is_as_frequent_as_asked():
    kinds = [mix_plan(ViewParams(mixup=0.2, mix_share=0.3), step, 4, seed=0)[0] for step in range(500)]
    assert kinds.count("mixup") == pytest.approx(150, abs=35) and kinds.count("cutmix") == 0
    assert mix_plan(ViewParams(), 3, 4, seed=0)[0] == "none"


def test_too_few_examples_for_a_batch_or_for_the_ranks_are_refused():
    with pytest.raises(ValueError, match=r"fit\.batch_size = 8, .*4 examples; .*smaller"):
        loader(repeats=np.repeat([1, 0], [4, NUM - 4]))
    with pytest.raises(ValueError, match=r"train\.fit\.batch_size = 8 .*9 ranks; .*9 or more"):
        check_batch(8, np.ones(NUM, np.int64), key="train.fit.batch_size", num_ranks=9)


def test_whole_batches_cover_a_split_once_over_all_ranks():
    seen = [
        targets["label"]
        for rank in range(3)
        for _, targets in whole_batches(columns(), FACTS, 7, torch.device("cpu"), rank, 3)
    ]
    assert sorted(torch.cat(seen).tolist()) == list(range(NUM))
    inputs, targets = as_batch(columns(), FACTS)
    assert inputs["image"].shape == (NUM, 3, 6, 5) and targets["mask"].dtype == torch.int64


def test_columns_that_do_not_fit_stay_in_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "image.npy", columns()["image"].numpy())
    mapped = np.load(tmp_path / "image.npy", mmap_mode="r")
    copied = to_tensors({"image": mapped}, torch.device("cpu"))["image"]
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=mapped.nbytes))
    kept = to_tensors({"image": mapped}, torch.device("cpu"))["image"]
    assert kept.data_ptr() == mapped.ctypes.data != copied.data_ptr()
    assert torch.equal(kept, copied)


def test_ids_are_those_of_the_whole_batch_in_its_order():
    names = [f"image {number}" for number in range(NUM)]
    together = TrainLoader(
        columns(),
        Examples(np.ones(NUM, int), np.ones(NUM), FACTS, {"mask": Field("map")}, ids=lambda: names),
        batch_size=8,
        device=torch.device("cpu"),
        views=ViewParams(),
        seed=0,
    )
    for number, batch in enumerate(together.batches(1)):
        assert together.ids(1, number) == [names[label] for label in batch.targets["label"].tolist()]


@pytest.mark.parametrize(
    "on", [{"flip": True, "crop_px": 2}, {"cutout_px": 2}, {"mixup": 1.0}, {"cutmix": 1.0}]
)
def test_all_frames_of_a_clip_change_as_an_image_does(on: dict[str, Any]):
    image = columns()["image"]
    clip = torch.stack([image, 255 - image, image], dim=1)
    wanted, found = (
        [batch.inputs for batch in clip_loader(given, facts, on).batches(1)]
        for given, facts in (({"image": image}, FACTS), ({"clip": clip}, {"clip": ClipInput.of(FILL, 3)}))
    )
    changed = 0
    for one, other in zip(wanted, found, strict=True):
        first, second, third = other["clip"].unbind(1)
        assert torch.equal(first, one["image"]) and torch.equal(third, first)
        if "cutout_px" not in on:
            assert torch.allclose(second.float(), 255 - first.float(), atol=1e-3)
        changed += int(not all((each == image.permute(0, 3, 1, 2)).flatten(1).all(1).any() for each in first))
    assert changed
