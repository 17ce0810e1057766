"""Contestant: a plain PyTorch loop with a DataLoader, its workers, and albumentations image by image.

This is the loop that most users write.
"""

import random
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import albumentations as A
import cv2
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from peers.job import Data, Job, Report, device, normalised, take_turn
from temper.inputs.image_input import image_of


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Single images; each one goes through the augmentation policy."""

    def __init__(self, data: Data) -> None:
        self.images, self.labels, self.policy = data.images, data.labels, policy(data)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        return self.policy(image=self.images[number])["image"], int(self.labels[number])


def policy(data: Data) -> A.Compose:
    """Return the augmentation that temper's parameters describe.

    Images are shifted by up to `crop_px` with mirrored edges, flipped at random, and normalised.
    """
    views, image = data.params.train.views, image_of(data.facts)
    shift = [
        A.Pad(padding=views.crop_px, border_mode=cv2.BORDER_REFLECT_101),
        A.RandomCrop(image.height_px, image.width_px),
    ]
    mean, std = ([value / 255 for value in each] for each in (image.mean, image.std))
    steps = [*(shift if views.crop_px else []), *([A.HorizontalFlip(p=0.5)] if views.flip else [])]
    return A.Compose([*steps, A.Normalize(mean=mean, std=std), ToTensorV2()])


def seed_policy(number: int, *, images: ImageDataset, seed: int) -> None:
    """Give every transform of a worker its own random numbers.

    After a fork, all workers would draw the same numbers, and one seed for a policy gives all its transforms
    the same numbers.
    """
    cv2.setNumThreads(0)
    info = get_worker_info()
    for index, step in enumerate((info.dataset if info else images).policy.transforms):
        entropy = [seed, number, index]
        step.set_random_state(np.random.default_rng(entropy), random.Random(str(entropy)))


def load(data: Data, job: Job) -> DataLoader[tuple[Tensor, int]]:
    """Return the training split as a DataLoader that shuffles again in every epoch."""
    images = ImageDataset(data)
    seed_policy(0, images=images, seed=job.seed)
    return DataLoader(
        images,
        batch_size=data.params.train.fit.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=job.workers,
        persistent_workers=job.workers > 0,
        pin_memory=device().type == "cuda",
        worker_init_fn=partial(seed_policy, images=images, seed=job.seed),
        generator=torch.Generator().manual_seed(job.seed),
    )


def build_optimizer(
    network: nn.Module, data: Data
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
    """Return SGD with Nesterov momentum and torch's one-cycle schedule.

    Learning rate, momentum, weight decay and warm-up are those of the parameters.
    """
    fit = data.params.train.fit
    optimizer = torch.optim.SGD(
        network.parameters(),
        lr=fit.lr,
        momentum=fit.momentum,
        nesterov=fit.momentum > 0,
        weight_decay=fit.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=fit.lr,
        total_steps=fit.epochs * data.num_batches,
        pct_start=fit.warmup_share,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    return optimizer, schedule


def autocast(job: Job) -> AbstractContextManager[object]:
    """Return a context in which a peer's network runs in the job's precision."""
    return torch.autocast(device().type, dtype=torch.bfloat16) if job.precision == "bf16" else nullcontext()


def run(job: Job, report: Report) -> None:
    """Warm up, then train."""
    take_turn(_train, job, report)


def _train(data: Data, job: Job, report: Report) -> None:
    torch.manual_seed(job.seed)
    fit = data.params.train.fit
    loader, network = load(data, job), data.network().to(device())
    criterion = nn.CrossEntropyLoss(label_smoothing=fit.label_smoothing)
    optimizer, schedule = build_optimizer(network, data)
    report.start()
    for _ in range(fit.epochs):
        network.train()
        for images, labels in loader:
            images, labels = images.to(device(), non_blocking=True), labels.to(device(), non_blocking=True)
            with autocast(job):
                loss = criterion(network(images), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        with report.aside():
            report.score(normalised(network.eval(), data.facts))
    report.stop()
