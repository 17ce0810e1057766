"""Laws of distillation for every problem and number of classes: the distance has a useful gradient."""

from dataclasses import replace

import pytest
import torch

from temper.engine.objectives import teaching_distance
from temper.problem import Outputs, Problem
from tests.toy import TOYS, Toy

NUM_CLASSES = (2, 3, 5, 10, 100, 1000)
TEMPERATURE = 2.0


@pytest.fixture(params=TOYS.values(), ids=TOYS.keys())
def toy(request: pytest.FixtureRequest) -> Toy:
    return request.param


def with_classes(toy: Toy, num_classes: int) -> Problem:
    names = tuple(f"class {number}" for number in range(num_classes))
    return replace(toy.problem, **toy.named(names))


def random_outputs(toy: Toy, num_classes: int, seed: int, scale: float = 2.0) -> dict[str, torch.Tensor]:
    """Make random outputs like those of the toy's network, for another number of classes.

    What a network looks up gets no gradient, and stays as it is.
    """
    generator = torch.Generator().manual_seed(seed)
    network = replace(toy, problem=with_classes(toy, num_classes)).network().eval()
    return {
        name: scale * torch.randn(value.shape, generator=generator) if value.requires_grad else value
        for name, value in network(toy.batch(8)[0]).items()
    }


def learned(toy: Toy) -> frozenset[str]:
    """Return the names of the outputs that get a gradient."""
    return frozenset(name for name, value in toy.network()(toy.batch(2)[0]).items() if value.requires_grad)


def measure_distance(
    toy: Toy, problem: Problem, said: Outputs, wanted: Outputs, *, standardized: bool
) -> tuple[torch.Tensor, float]:
    """Return the distance of each example, and the norm of the gradient of their mean."""
    leaves = {name: said[name].clone().requires_grad_() for name in learned(toy)}
    kept = problem.standardized_share if standardized else 0.0
    distance = teaching_distance(problem, {**said, **leaves}, wanted, temperature=TEMPERATURE, kept=kept)
    distance.mean().backward()
    return distance.detach(), sum(float(value.grad.square().sum()) for value in leaves.values()) ** 0.5


@pytest.mark.parametrize("num_classes", NUM_CLASSES)
@pytest.mark.parametrize("standardized", [False, True], ids=["raw", "z-scored"])
def test_outputs_that_differ_have_a_distance_whose_gradient_counts(
    toy: Toy, num_classes: int, standardized: bool
):
    problem = with_classes(toy, num_classes)
    said, wanted = (random_outputs(toy, num_classes, seed) for seed in (0, 1))
    distance, gradient = measure_distance(toy, problem, said, wanted, standardized=standardized)
    _, plain = measure_distance(toy, problem, said, wanted, standardized=False)
    assert (distance > 1e-3).all()
    assert gradient > 0.05 * plain
    same, still = measure_distance(toy, problem, wanted, wanted, standardized=standardized)
    assert same.abs().max() < 1e-5 and still < 1e-4


@pytest.mark.parametrize("num_classes", NUM_CLASSES)
@pytest.mark.parametrize("standardized", [False, True], ids=["raw", "z-scored"])
def test_a_student_that_shouts_is_pulled_back(toy: Toy, num_classes: int, standardized: bool):
    """The outputs differ only in scale: without this distance, nothing limits the student's logits."""
    problem = with_classes(toy, num_classes)
    wanted = random_outputs(toy, num_classes, 0)
    loud = {name: (5 * wanted[name]).requires_grad_() for name in learned(toy)}
    kept = problem.standardized_share if standardized else 0.0
    distance = teaching_distance(problem, {**wanted, **loud}, wanted, temperature=TEMPERATURE, kept=kept)
    distance.sum().backward()
    assert (distance > 0).all()
    outward = sum(float((value.grad * wanted[name]).sum()) for name, value in loud.items())
    assert outward > 0, "a step against the gradient must make the student's logits smaller"


def test_multilabel_with_one_label_is_taught():
    toy = TOYS["multilabel"]
    problem = with_classes(toy, 1)
    said, wanted = (random_outputs(toy, 1, seed) for seed in (0, 1))
    distance, gradient = measure_distance(toy, problem, said, wanted, standardized=True)
    assert (distance > 0).all() and gradient > 1e-2


def test_what_is_taught_by_distance_alone_is_learned(toy: Toy):
    """A student of one batch ends near a teacher that says the truth."""
    inputs, targets = toy.batch()
    teacher = {name: value.clamp(-4, 4) for name, value in toy.say(targets).items()}
    network = toy.network(3).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    wanted = toy.problem.read(teacher)

    def gap() -> float:
        toy.settle(network)
        with torch.inference_mode():
            return float(toy.problem.gap(toy.problem.read(network(inputs)), wanted).mean())

    before = gap()
    for _ in range(80):
        distance = toy.problem.distance(network(inputs), teacher, temperature=2.0).mean()
        optimizer.zero_grad()
        distance.backward()
        optimizer.step()
    assert gap() < before / 2
