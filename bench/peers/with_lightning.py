"""Contestant: Lightning's Trainer with the loader, optimiser and schedule of the plain loop.

It runs without logger, checkpoints and progress bars.
"""

import warnings

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from peers.job import Data, Job, Report, normalised, take_turn
from peers.plain import build_optimizer, load


class Module(lightning.LightningModule):
    """The training as a LightningModule."""

    def __init__(self, data: Data, report: Report) -> None:
        super().__init__()
        self.network, self.data, self.report = data.network(), data, report
        self.criterion = nn.CrossEntropyLoss(label_smoothing=data.params.train.fit.label_smoothing)

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        images, labels = batch
        return self.criterion(self.network(images), labels)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer, schedule = build_optimizer(self.network, self.data)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self.report.start()

    def on_train_epoch_end(self) -> None:
        with self.report.aside():
            self.network.eval()
            self.report.score(normalised(self.network, self.data.facts))
            self.network.train()

    def on_train_end(self) -> None:
        self.report.stop()


def run(job: Job, report: Report) -> None:
    """Warm up, then train."""
    take_turn(_train, job, report)


def _train(data: Data, job: Job, report: Report) -> None:
    torch.manual_seed(job.seed)
    with warnings.catch_warnings():
        # It recommends more and persistent workers, but a trial has already found the fastest number.
        warnings.simplefilter("ignore")
        lightning.Trainer(
            max_epochs=data.params.train.fit.epochs,
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if job.precision == "bf16" else "32-true",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(Module(data, report), load(data, job))
