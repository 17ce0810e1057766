"""Contestant: timm's parts, combined as in its train.py.

These are its loader with prefetching, its augmentation, optimiser, schedule and weight average. If timm does
not offer a setting, its nearest one is used: random resized crops of 0.8 to 1 of the area instead of shifts.
The scores are those of the averaged weights, as train.py reports them. channels_last is on, as timm's
documentation recommends.
"""

from typing import Any

import torch
from PIL import Image
from timm.data import create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader, Dataset

from peers.job import Data, Job, Report, device, normalised, take_turn
from peers.plain import autocast
from temper.inputs.image_input import image_of

_SCALE, _RATIO = (0.8, 1.0), (0.9, 1.1)


class ImageDataset(Dataset[tuple[Any, int]]):
    """Single images; each one goes through the transform that timm's loader sets."""

    def __init__(self, data: Data) -> None:
        self.images, self.labels, self.transform = data.images, data.labels, None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Any, int]:
        image = self.images[number]
        opened = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
        return self.transform(opened) if self.transform else opened, int(self.labels[number])


def load(data: Data, job: Job) -> DataLoader[Any]:
    """Return timm's loader, which normalises whole batches after the workers."""
    image, train = image_of(data.facts), data.params.train
    return create_loader(
        ImageDataset(data),
        input_size=(image.channels, image.height_px, image.width_px),
        batch_size=train.fit.batch_size,
        is_training=True,
        scale=_SCALE if train.views.crop_px else (1.0, 1.0),
        ratio=_RATIO if train.views.crop_px else (1.0, 1.0),
        hflip=0.5 if train.views.flip else 0.0,
        color_jitter=0.0,
        mean=tuple(value / 255 for value in image.mean),
        std=tuple(value / 255 for value in image.std),
        num_workers=job.workers,
        pin_memory=device().type == "cuda",
        device=device(),
        persistent_workers=job.workers > 0,
    )


def run(job: Job, report: Report) -> None:
    """Warm up, then train."""
    take_turn(_train, job, report)


def _train(data: Data, job: Job, report: Report) -> None:
    torch.manual_seed(job.seed)
    fit = data.params.train.fit
    loader, network = load(data, job), data.network().to(device(), memory_format=torch.channels_last)
    optimizer = create_optimizer_v2(
        network, "sgd", lr=fit.lr, weight_decay=fit.weight_decay, momentum=fit.momentum
    )
    warmup_epochs = fit.warmup_share * fit.epochs
    schedule, _ = create_scheduler_v2(
        optimizer,
        "poly",  # with power 1, after a linear warm-up: equal to the schedule of the others
        num_epochs=fit.epochs - warmup_epochs,
        decay_rate=1.0,
        warmup_lr=fit.lr / 25,
        warmup_epochs=warmup_epochs,
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=data.num_batches,
    )
    criterion = LabelSmoothingCrossEntropy(fit.label_smoothing)
    average = ModelEmaV3(network, decay=fit.average_decay, use_warmup=True) if fit.average_decay else None
    step = 0
    report.start()
    for _ in range(fit.epochs):
        network.train()
        for images, labels in loader:
            images = images.contiguous(memory_format=torch.channels_last)
            with autocast(job):
                loss = criterion(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if average is not None:
                average.update(network, step=step)
            schedule.step_update(num_updates=step)
        with report.aside():
            report.score(normalised((average.module if average is not None else network).eval(), data.facts))
    report.stop()
