"""What only distillation and calibration ask of a problem."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn

    from temper.problem import Inputs, Outputs, Targets


class Taught(Protocol):
    """What distillation and calibration ask. `problems.defaults` answers it for outputs of any kind."""

    def ask_teacher(self, teacher: "nn.Module", inputs: "Inputs", outputs: "Outputs") -> "Outputs":
        """Return the teacher's outputs for a batch.

        Args:
            teacher: The teacher, frozen and in evaluation mode.
            inputs: What the student saw.
            outputs: What the student answered: a teacher of two stages must answer for the same proposals.
        """

    def distance(self, outputs: "Outputs", reference: "Outputs", *, temperature: float = 1.0) -> "Tensor":
        """Return the distance of each example's outputs from those of another network, shape [batch].

        It is 0 for equal outputs. Only `outputs` gets a gradient.
        """

    def soften(self, outputs: "Outputs", temperature: float) -> "Outputs":
        """Return outputs that are less confident by `temperature`; 1 changes nothing."""

    def standardize(self, outputs: "Outputs") -> "Outputs":
        """Remove scale and offset from outputs (z-scored logits).

        Distillation uses this between networks of different confidence.
        """

    @property
    def standardized_share(self) -> float:
        """Share of the directions in which outputs can differ that `standardize` keeps, 0..1.

        Distillation compares the remaining directions without standardising.
        """

    def set_decisions(
        self, network: "nn.Module", outputs: "Sequence[Outputs]", targets: "Sequence[Targets]"
    ) -> Mapping[str, float]:
        """Shift what a trained network says, so that its decisions are best on examples that it did not see.

        Args:
            network: The network, which is changed.
            outputs: What it says about validation examples, batch by batch.
            targets: Their truth.

        Returns:
            The scores that change with it; empty if nothing was shifted.
        """
