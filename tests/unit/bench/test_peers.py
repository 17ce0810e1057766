"""Tests of bench/train.py: equal settings of the contestants, clocks that count only training, complete
tables.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from peers import plain, turns
from peers.job import Job, Report, normalised, open_data, override
from peers.table import NEVER, read_levels, seconds_to, times_sooner
from peers.turns import Kept, Turn, identify, take_turn
from recipe import read_variants, table
from temper.data.dataset.packed import open_inputs
from temper.maths.random import derive
from temper.networks.build import build_network
from temper.networks.whitening import whiten
from tests.project import make_project, run_until
from train import find_workers


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("peers"), "multiclass", count=120, epochs=1)
    run_until(folder, "augment")
    return folder


@pytest.fixture
def job(project: Path) -> Job:
    return Job(contestant="plain", project=str(project), threads=1)


def turn(*epochs: tuple[float, float]) -> Turn:
    report = [
        {"epoch": number + 1, "seconds": seconds, "score": score}
        for number, (seconds, score) in enumerate(epochs)
    ]
    return Turn("plain", 0, seconds=epochs[-1][0], images=100, peak_bytes=1, epochs=report)


@pytest.mark.parametrize("family", ["small-resnet", "small-vgg"])
def test_peers_start_with_the_network_of_temper(job: Job, family: str):
    job = replace(
        job, seed=3, overrides={"backbone": {"family": family, "widths": [8, 16], "depths": [1, 1]}}
    )
    data = open_data(job)
    theirs = data.network().eval()
    ours = build_network(data.problem, data.params.train.backbone, data.facts, seed=derive(3, "train")).eval()
    whiten(ours, open_inputs(job.inputs()["prepare"])["image"])
    pixels = torch.from_numpy(data.images[:8]).permute(0, 3, 1, 2)
    inputs = {"image": pixels}
    found = normalised(theirs, data.facts)(inputs)["logits"]
    assert found.std() > 0
    torch.testing.assert_close(found, ours(inputs)["logits"], rtol=1e-4, atol=1e-5)


def test_a_plain_loop_reports_every_epoch_and_all_its_images(job: Job):
    lines: list[str] = []
    job = replace(job, overrides={"fit.epochs": 2})
    plain.run(job, Report(job, lines.append))
    first, second, end = map(json.loads, lines)
    assert [first["epoch"], second["epoch"]] == [1, 2]
    assert 0 < first["seconds"] < second["seconds"] <= end["seconds"]
    assert 0 <= second["score"] <= 1
    assert end["images"] == 2 * (len(open_data(job).images) // 32) * 32


def test_workers_and_transforms_draw_different_numbers(job: Job):
    data = open_data(job)
    loader = plain.load(data, job)
    steps = loader.dataset.policy.transforms
    draws = [step.random_generator.random() for step in steps]
    plain.seed_policy(1, images=loader.dataset, seed=job.seed)
    assert len({*draws, *(step.random_generator.random() for step in steps)}) == 2 * len(steps)


def test_workers_are_chosen_by_speed_and_never_by_the_test_split(job: Job):
    tried = []

    class Rehearsal:
        def take(self, trial: Job) -> Turn:
            tried.append(trial)
            start = 100.0 if trial.workers == 2 else 1.0  # a slow first epoch must not count
            return turn((start, 0.1), (start + (1 if (trial.workers, trial.threads) == (2, 1) else 3), 0.1))

    wanted = replace(job, split="test", overrides={"fit.epochs": 9})
    found = find_workers(wanted, Rehearsal(), 2)
    assert found == replace(wanted, workers=2, threads=1)
    assert {(trial.workers, trial.threads) for trial in tried} == {(0, 2), (1, 1), (1, 2), (2, 1), (2, 2)}
    assert {trial.split for trial in tried} == {"validation"}
    assert {trial.params().train.fit.epochs for trial in tried} == {2}


@pytest.mark.slow
def test_temper_takes_a_turn_that_is_not_repeated(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job = replace(job, contestant="temper", overrides={"fit.epochs": 2})
    taken = Kept(tmp_path / "turns.json").take(job)
    assert [epoch["epoch"] for epoch in taken.epochs] == [1, 2]
    assert taken.images == 2 * (len(open_data(job).images) // 32) * 32
    assert taken.facts == {"precision": "fp32", "layout": "contiguous"}
    assert 0 < taken.epochs[-1]["seconds"] <= taken.seconds
    monkeypatch.setattr(turns, "take_turn", lambda *_: pytest.fail("trained again"))
    assert Kept(tmp_path / "turns.json").take(job) == taken
    assert (
        identify(replace(job, seed=1)) != identify(job) != identify(replace(job, overrides={"fit.epochs": 3}))
    )


@pytest.mark.slow
def test_the_error_of_a_failed_turn_contains_its_last_output(job: Job):
    with pytest.raises(ValueError, match=r"status 2;[\s\S]*unknown key train\.fit\.epoch\b"):
        take_turn(replace(job, contestant="temper", overrides={"fit.epoch": 2}))


def test_the_clock_is_paused_while_a_score_is_computed(job: Job):
    report = Report(job, None)
    report.start()
    with report.aside():
        time.sleep(0.3)
    report.stop()
    assert report._seconds < 0.25


def test_overrides_name_the_wrong_key_and_do_not_change_their_values(project: Path):
    fit = {"epochs": 1, "batch_size": 8, "lr": 0.1}
    params = override(project, {"train.fit": fit, "train.fit.epochs": 5})
    assert params.train.fit.epochs == 5 and fit["epochs"] == 1
    with pytest.raises(ValueError, match=r"unknown key train\.fit\.epoch\b.*'epochs'"):
        override(project, {"train.fit.epoch": 5})
    with pytest.raises(ValueError, match=r"lr is a value"):
        override(project, {"train.fit.lr.peak": 5})


def test_seconds_to_a_level_count_those_that_never_reach_it():
    fast, slow = turn((1, 0.5), (2, 0.93), (3, 0.92)), turn((10, 0.5), (20, 0.6), (30, 0.7))
    assert seconds_to([fast], 0.93) == "2.0"
    assert seconds_to([fast, slow], 0.93) == "2.0, 1 of 2 runs"
    assert seconds_to([slow], 0.93) == NEVER
    assert times_sooner([fast], [slow], 0.6) == "10.00"
    assert times_sooner([fast], [slow], 0.93) == "-"


@pytest.mark.parametrize("text", ["92,x", "0", "92,,93", "101", ""])
def test_levels_are_percents(text: str):
    with pytest.raises(ValueError, match="92,93,94"):
        read_levels(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{a: 1}", "must be a list"),
        ("[{set: {}}]", "variants.yaml.*'set'.*write {name: "),
        ("[{name: a, sets: {}}]", "variants.yaml.*'sets'.*write {name: "),
        ("[{name: a}, {name: a}]", "'a' .*twice"),
    ],
)
def test_a_wrong_list_of_variants_is_refused(tmp_path: Path, text: str, match: str):
    path = tmp_path / "variants.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=match):
        read_variants(path)


def test_a_table_of_variants(tmp_path: Path):
    found = table({"as it is": [turn((1, 0.5), (2, 0.9)), turn((1, 0.5), (4, 0.94))]}, [92.0])
    assert (
        found.splitlines()[-1]
        == "| as it is | 38 (25-50) | 3.0 (2.0-4.0) | 92.00 ± 2.83 | 4.0, 1 of 2 runs | 2 |"
    )
