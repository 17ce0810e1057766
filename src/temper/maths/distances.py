"""Distances between two networks' outputs: one measure for distillation, quantization drift and agreement."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from temper.maths.losses import mean_over_space


def softmax_kl(
    student: Float[Tensor, "batch classes *space"],
    teacher: Float[Tensor, "batch classes *space"],
    *,
    temperature: float,
) -> Float[Tensor, "batch"]:
    """Return how far the student's class probabilities are from the teacher's.

    The distance is KL(teacher || student) of the probabilities softened by `temperature`, averaged over
    `space` and multiplied by temperature squared. With this factor the gradient keeps the size of the
    supervised loss's gradient at every temperature.

    Args:
        student: Logits, not normalised.
        teacher: Logits of the frozen network; no gradient reaches them.
        temperature: Softening, above 0; 1 leaves the probabilities unchanged.

    Returns:
        Nats per example; exactly 0 if the two agree.

    Raises:
        ValueError: If temperature is not above 0.

    Source:
        Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0]])
        >>> softmax_kl(logits, logits, temperature=4.0)
        tensor([0.])
    """
    _check(temperature)
    found = functional.log_softmax(student.float() / temperature, dim=1)
    wanted = functional.log_softmax(teacher.detach().float() / temperature, dim=1)
    return temperature**2 * mean_over_space((wanted.exp() * (wanted - found)).sum(dim=1)).clamp(min=0)


def sigmoid_kl(
    student: Float[Tensor, "batch classes"], teacher: Float[Tensor, "batch classes"], *, temperature: float
) -> Float[Tensor, "batch"]:
    """Return how far the student's yes-probabilities are from the teacher's, averaged over the classes.

    Args:
        student: Log-odds.
        teacher: Log-odds of the frozen network; no gradient reaches them.
        temperature: Softening, above 0.

    Returns:
        Nats per example and class, times temperature squared; exactly 0 if the two agree.

    Raises:
        ValueError: If temperature is not above 0.

    Example:
        >>> import torch
        >>> sigmoid_kl(torch.zeros(1, 3), torch.zeros(1, 3), temperature=2.0)
        tensor([0.])
    """
    _check(temperature)
    found, wanted = student.float() / temperature, teacher.detach().float() / temperature
    share = wanted.sigmoid()
    yes = share * (functional.logsigmoid(wanted) - functional.logsigmoid(found))
    no = (1 - share) * (functional.logsigmoid(-wanted) - functional.logsigmoid(-found))
    return temperature**2 * (yes + no).mean(dim=1).clamp(min=0)


def z_score(logits: Float[Tensor, "batch classes *space"]) -> Float[Tensor, "batch classes *space"]:
    """Standardise logits to mean 0 and standard deviation 1 over the classes.

    Source:
        Sun et al. 2024, "Logit Standardization in Knowledge Distillation", arXiv:2403.01427, equation 6.
    """
    centred = logits.float() - logits.float().mean(dim=1, keepdim=True)
    return centred / (centred.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()


def unit_scale(logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """Divide log-odds by their root mean square over the classes.

    The boundary between no and yes stays at 0.
    """
    return logits.float() / (logits.float().square().mean(dim=1, keepdim=True) + 1e-7).sqrt()


def _check(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(
            f"temperature = {temperature}: it must be above 0; 1 leaves the probabilities unchanged"
        )
