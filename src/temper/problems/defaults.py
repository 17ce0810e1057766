"""What most kinds of problems answer; a kind overrides what it answers otherwise."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from temper.mistakes import WORST, Mistake
from temper.problem import Answer, Columns, Inputs, Option, Outputs, Problem, Targets

if TYPE_CHECKING:
    from torch import Tensor, nn


class Defaults:
    """Answers of a kind without classes, options of the loss and confidence."""

    @property
    def emphases(self) -> frozenset[Option]:
        """None."""
        return frozenset()

    @property
    def rare(self) -> bool:
        """Every split needs every stratum."""
        return False

    def settle(self, columns: Columns, facts: Mapping[str, Any]) -> tuple[Self, list[str]]:
        """Return the problem as it is: nothing more must be known."""
        return self, []

    def parts(self, targets: Targets) -> Mapping[str, Targets]:
        """Return none."""
        return {}

    def confusion(self, answer: Answer, targets: Targets) -> "Tensor | None":
        """Return None: there are no classes to confuse."""
        return None

    @property
    def mistakes(self) -> Mapping[str, Mistake]:
        """One way to be wrong."""
        return WORST

    def errors(self: Problem, answer: Answer, targets: Targets) -> "dict[str, Tensor]":
        """Return `error` as the only way to be wrong."""
        return {"mistakes": self.error(answer, targets)}

    def verdicts(self, answer: Answer, targets: Targets) -> "tuple[Tensor, Tensor] | None":
        """Return None: an example is right or wrong as a whole."""
        return None

    def ask_teacher(self, teacher: "nn.Module", inputs: Inputs, outputs: Outputs) -> Outputs:
        """Return what the teacher answers to the same inputs."""
        found: Outputs = teacher(inputs)
        return found

    def distance(self, outputs: Outputs, reference: Outputs, *, temperature: float = 1.0) -> "Tensor":
        """Return the Huber distance of all outputs, each averaged over its places; no temperature."""
        import torch

        from temper.maths.losses import penalize

        return torch.stack(
            [
                penalize((value.float() - reference[name].detach().float()).flatten(1), "huber")
                for name, value in outputs.items()
            ]
        ).sum(dim=0)

    def soften(self, outputs: Outputs, temperature: float) -> Outputs:
        """Return the same outputs: numbers have no confidence."""
        return outputs

    def standardize(self, outputs: Outputs) -> Outputs:
        """Return the same outputs: their scale and offset have a meaning."""
        return outputs

    @property
    def standardized_share(self) -> float:
        """Nothing is standardised."""
        return 0.0

    def set_decisions(
        self, network: "nn.Module", outputs: Sequence[Outputs], targets: Sequence[Targets]
    ) -> Mapping[str, float]:
        """Leave the network as it is: the loss already makes 0.5, or the largest, the best decision."""
        return {}
