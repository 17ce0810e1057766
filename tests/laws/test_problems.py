"""Laws of every kind of problem."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from temper.compress.cost import measure_cost
from temper.compress.export import Deployable, export
from temper.compress.quantizer import Quantizer, Setting
from temper.fields import by_layout
from temper.inputs.stored import as_record, read_inputs, read_record, write_inputs
from temper.mistakes import Verdict
from temper.networks.heads import count_parameters
from temper.networks.onnx_model import Deployed
from temper.problem import Emphasis
from temper.problems import dump, load
from tests.toy import FRAME, TOYS, Toy


@pytest.fixture(params=TOYS.values(), ids=TOYS.keys())
def toy(request: pytest.FixtureRequest) -> Toy:
    return request.param


def test_outputs_are_finite_with_the_same_keys_in_training_and_evaluation(toy: Toy):
    inputs, _ = toy.batch()
    network = toy.network()
    training, evaluation = network.train()(inputs), network.eval()(inputs)
    assert training.keys() == evaluation.keys()
    assert all(value.isfinite().all() for value in (*training.values(), *evaluation.values()))


def test_loss_is_per_example_and_its_gradient_reaches_every_parameter(toy: Toy):
    inputs, targets = toy.batch()
    network = toy.network().train()
    loss = toy.problem.loss(network(inputs), targets)
    assert loss.shape == (16,)
    assert (loss > 0).all()
    loss.mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_sixty_steps_on_one_batch_halve_the_loss(toy: Toy):
    inputs, targets = toy.batch()
    network = toy.network().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        loss = toy.problem.loss(network(inputs), targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 2


def test_distance_is_nothing_to_itself_never_negative_and_moves_only_the_first(toy: Toy):
    inputs, _ = toy.batch()
    first, second = (
        # What a network looks up is no output to learn.
        {
            key: value.detach().requires_grad_() if value.requires_grad else value
            for key, value in toy.network(seed).eval()(inputs).items()
        }
        for seed in (0, 1)
    )
    assert toy.problem.distance(first, first).abs().max() == 0
    apart = toy.problem.distance(first, second, temperature=2.0)
    assert apart.shape == (16,)
    assert (apart >= 0).all() and apart.sum() > 0
    apart.sum().backward()
    learned = [value for value in first.values() if value.requires_grad]
    assert learned and all(value.grad is not None and value.grad.abs().sum() > 0 for value in learned)
    assert all(value.grad is None for value in second.values())


def test_outputs_built_from_the_truth_score_best(toy: Toy):
    _, targets = toy.batch()
    answer = toy.problem.read(toy.say(targets))
    scores = toy.problem.score(toy.problem.tally(answer, targets).double().sum(dim=0))
    assert toy.problem.headline.name in scores
    assert scores == {name: pytest.approx(toy.best.get(name, 1.0), abs=1e-6) for name in scores}
    assert (toy.problem.error(answer, targets) < 1e-6).all()
    other = toy.problem.read(toy.network().eval()(toy.batch()[0]))
    worse = toy.problem.score(toy.problem.tally(other, targets).sum(dim=0))
    assert tuple(worse) == toy.problem.scores
    headline = toy.problem.headline
    sign = 1 if headline.greater_is_better else -1
    assert sign * worse[headline.name] < sign * scores[headline.name]


def test_tallies_add_up_whatever_the_batches(toy: Toy):
    inputs, targets = toy.batch(18)
    answer = toy.problem.read(toy.network().eval()(inputs))

    def tally(start: int, stop: int) -> torch.Tensor:
        part = slice(start, stop)
        found = toy.problem.tally(
            {k: v[part] for k, v in answer.items()}, {k: v[part] for k, v in targets.items()}
        )
        assert len(found) == stop - start
        return found.double().sum(dim=0)

    whole = toy.problem.score(tally(0, 18))
    merged = toy.problem.score(tally(12, 18) + tally(0, 6) + tally(0, 0) + tally(6, 12))
    torch.testing.assert_close(merged, whole, rtol=0, atol=1e-12)


def test_what_lies_beside_in_the_batch_changes_nothing(toy: Toy):
    inputs, targets = toy.batch()
    network = toy.network().eval()
    together = network(inputs)
    alone = network({key: value[3:4] for key, value in inputs.items()})
    for key, value in alone.items():
        torch.testing.assert_close(value, together[key][3:4], rtol=1e-4, atol=1e-4)
    one = {key: value[3:4] for key, value in targets.items()}
    torch.testing.assert_close(
        toy.problem.loss(alone, one), toy.problem.loss(together, targets)[3:4], rtol=1e-3, atol=1e-4
    )


def test_padding_of_spatial_truth_changes_nothing(toy: Toy):
    _, targets = toy.batch()
    outputs = toy.say(targets)
    padded_outputs, padded_targets = dict(outputs), dict(targets)
    for key in by_layout(toy.problem.truth, "map"):
        padded_targets[key] = torch.nn.functional.pad(targets[key], (0, 4, 0, 4), value=255)
        padded_outputs = {
            name: torch.nn.functional.pad(value, (0, 4, 0, 4), value=3.0) for name, value in outputs.items()
        }
    torch.testing.assert_close(
        toy.problem.loss(padded_outputs, padded_targets),
        toy.problem.loss(outputs, targets),
        rtol=1e-5,
        atol=1e-7,
    )
    tallies = [
        toy.problem.tally(toy.problem.read(said), true)
        for said, true in ((outputs, targets), (padded_outputs, padded_targets))
    ]
    assert torch.equal(*tallies)


def test_softening_keeps_the_order_and_one_changes_nothing(toy: Toy):
    inputs, _ = toy.batch()
    outputs = toy.network().eval()(inputs)
    for key, value in toy.problem.soften(outputs, 1.0).items():
        assert torch.equal(value, outputs[key])
    assert (toy.problem.distance(toy.problem.soften(outputs, 3.0), outputs) >= 0).all()
    standard = toy.problem.standardize(outputs)
    louder = toy.problem.standardize({key: 5 * value for key, value in outputs.items()})
    for key, value in standard.items():
        # Outputs that mean something as they are, such as measurements, have no scale to remove.
        factor = 1 if toy.problem.standardized_share else 5
        torch.testing.assert_close(louder[key], factor * value, rtol=1e-3, atol=1e-3)


def test_emphasis_moves_the_loss_and_plain_emphasis_does_not(toy: Toy):
    inputs, targets = toy.batch()
    outputs = toy.network().eval()(inputs)
    plain = toy.problem.loss(outputs, targets)
    assert torch.equal(plain, toy.problem.loss(outputs, targets, Emphasis()))
    costs = ((0.0, 1.0, 2.0), (1.0, 0.0, 1.0), (2.0, 1.0, 0.0))
    for option, value in {"smoothing": 0.2, "offsets": (1.0, -1.0, 0.0), "costs": costs}.items():
        emphasis = Emphasis(**{option: value})
        if option in toy.problem.emphases:
            assert not torch.equal(plain, toy.problem.loss(outputs, targets, emphasis))
        else:
            with pytest.raises(ValueError, match=r"not defined|for classes only"):
                toy.problem.loss(outputs, targets, emphasis)


def test_confusion_counts_everything_and_captions_are_text(toy: Toy):
    inputs, targets = toy.batch()
    truthful = toy.problem.read(toy.say(targets))
    matrix = toy.problem.confusion(truthful, targets)
    assert (matrix is None) == (not toy.problem.classes)
    if matrix is not None:
        assert matrix.shape == (3, 3) and matrix.sum() > 0
        diagonal = matrix.diagonal()
        assert (diagonal == matrix.max(dim=1).values).all()
    with torch.inference_mode():
        answer = toy.problem.read(toy.network().eval()(inputs))
    error = toy.problem.error(answer, targets)
    assert error.shape == (16,) and (error >= 0).all() and (error <= 1).all()
    one = slice(0, 1)
    assert toy.problem.caption(
        {k: v[one] for k, v in answer.items()}, {k: v[one] for k, v in targets.items()}
    )


def test_errors_are_those_of_the_named_mistakes_and_none_of_the_truth(toy: Toy):
    inputs, targets = toy.batch()
    truthful = toy.problem.read(toy.say(targets))
    with torch.inference_mode():
        answer = toy.problem.read(toy.network().eval()(inputs))
    for given in (truthful, answer):
        errors = toy.problem.errors(given, targets)
        assert errors.keys() == toy.problem.mistakes.keys()
        assert all(each.shape == (16,) and (each >= 0).all() for each in errors.values())
        assert given is answer or all((each < 1e-6).all() for each in errors.values())
        if (verdicts := toy.problem.verdicts(given, targets)) is not None:
            for each, fields, columns in zip(
                verdicts, (toy.problem.truth, toy.problem.answer), (targets, given), strict=True
            ):
                (name,) = by_layout(fields, "boxes")
                assert each.shape == columns[name].shape[:2]
                assert given is answer or {*each.unique().tolist()} <= {Verdict.HIDDEN, Verdict.RIGHT}
    for mistake in toy.problem.mistakes.values():
        assert "student" in mistake.text.format(candidate="student") and mistake.title


def test_dump_and_load_give_the_same_problem(toy: Toy):
    assert load(json.loads(json.dumps(dump(toy.problem)))) == toy.problem


def test_strata_are_never_empty(toy: Toy):
    generator = np.random.default_rng(3)
    for _ in range(30):
        row, images = toy.truth(generator)
        strata = toy.problem.strata(toy.problem.pack(row, images, FRAME))
        assert strata and all(isinstance(name, str) for name in strata)


def test_binding_without_truth_is_an_error_with_a_way_out(toy: Toy):
    generator = np.random.default_rng(0)
    rows = [toy.truth(generator)[0] for _ in range(8)]
    bare = [replace(row, labels=(), mask=None, truth=None) for row in rows]
    is_read = toy.problem.classes and not by_layout(toy.problem.truth, "map")
    fresh = replace(toy.problem, classes=()) if is_read else toy.problem
    with pytest.raises(ValueError, match=r"needs|at least"):
        fresh.bind(bare)


def test_export_and_int8_keep_the_keys_and_stay_within_drift(toy: Toy, tmp_path: Path):
    inputs, targets = toy.batch(64)
    network = toy.network().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(40):
        loss = toy.problem.loss(network(inputs), targets).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    toy.settle(network.eval())
    deployable = Deployable(network, toy.problem, toy.facts, 1.5).eval()
    sent = toy.as_sent(inputs)
    export(deployable, toy.facts, tmp_path / "fp32.onnx", {"hello": "world"})
    metadata = {"hello": "int8"}
    Quantizer(tmp_path / "fp32.onnx", sent, tmp_path).make(Setting(), tmp_path / "int8.onnx", metadata)
    exact, small = Deployed(tmp_path / "fp32.onnx"), Deployed(tmp_path / "int8.onnx")
    assert (exact.metadata, small.metadata) == ({"hello": "world"}, metadata)
    with torch.inference_mode():
        wanted = toy.problem.read(toy.problem.soften(network(inputs), 1.5))
    for deployed, gap in ((exact, 2e-3), (small, 0.1)):
        answer = deployed(sent)
        assert answer.keys() == wanted.keys()
        assert toy.problem.gap(answer, wanted).mean() < gap
        assert toy.problem.changed(answer, wanted).mean() < 10 * gap
        ragged = by_layout(toy.problem.answer, "boxes", "sequence")
        for key, value in wanted.items() if not ragged else ():  # boxes are answered in any order
            if value.is_floating_point():
                assert (answer[key] - value).abs().mean() < gap
            else:
                assert (answer[key] != value).float().mean() < gap
    costs = [measure_cost(tmp_path / name, toy.facts) for name in ("fp32.onnx", "int8.onnx")]
    assert costs[0].macs == costs[1].macs > 0
    # Batch normalisation is folded into the convolutions: of its two numbers per channel, one remains.
    looked_up = sum(value.numel() for name, value in network.named_buffers() if name.startswith("index."))
    assert costs[1].params <= count_parameters(network) + looked_up
    one = small({name: column[:1] for name, column in sent.items()})
    assert all(value.shape[0] == 1 for value in one.values())


def test_inputs_are_stored_in_their_order(toy: Toy):
    stored = read_record(json.loads(json.dumps(as_record(toy.facts), sort_keys=True)))
    assert stored == toy.facts and list(stored) == list(toy.problem.inputs)
    assert read_inputs(write_inputs(toy.facts)) == toy.facts
