"""Random numbers that belong to an example, not to a moment.

A generator with a state gives an image other numbers when it lies in another batch, on another device or in another
process. Here every number is a hash of (seed, stream, key, position): the key names the example, the stream names the use
("flip", "occlusion.patch"), the position counts the numbers of one example. Nothing else matters, so a run can be resumed,
split over ranks or measured in other batches and sees the same images.

The hash is splitmix64's: a counter in steps of the golden ratio, then two multiply-xorshift rounds. torch's int64 wraps on
overflow as uint64 does; only the right shift needs a mask, because torch's keeps the sign.

Not for secrets. Left out: float64 numbers (24 random bits are enough for pixels) and other distributions.

Source:
    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"; constants from Vigna's splitmix64.c.
"""

import hashlib
import json
import math

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
_LAST_SHIFT = 31
_FLOAT_BITS = 24
"""A float32 holds exactly so many random bits in [0, 1)."""


def derive(seed: int, *words: str | int) -> int:
    """A seed of its own for each use of a seed, stable over machines and versions.

    Args:
        seed: The seed of the whole.
        words: What it is for, e.g. `"epoch", 3`.

    Returns:
        A number from 0 to 2**63 - 1: the first 63 bits of a SHA-256.

    Example:
        >>> derive(0, "epoch", 3) == derive(0, "epoch", 3)
        True
        >>> derive(0, "epoch", 3) == derive(0, "epoch", 4)
        False
    """
    digest = hashlib.sha256(json.dumps([seed, *words]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def hashes(
    keys: Int64[Tensor, "batch"], count: int, *, seed: int, stream: str
) -> Int64[Tensor, "batch count"]:
    """64 random bits for each key and position, on the keys' device.

    Args:
        keys: What names each example; equal keys get equal bits.
        count: Positions per key; the first ones do not depend on how many there are.
        seed: The seed of the whole.
        stream: What the bits are for; different streams are independent.
    """
    start = _mix(keys * _GOLDEN + derive(seed, stream))
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * _GOLDEN
    return _mix(start[:, None] + steps)


def uniform(
    keys: Int64[Tensor, "batch"], count: int, *, seed: int, stream: str
) -> Float32[Tensor, "batch count"]:
    """Numbers from [0, 1), equally likely; exactly the same on every device. Arguments as in `hashes`.

    Example:
        >>> alone = uniform(torch.tensor([7]), 2, seed=0, stream="flip")
        >>> among = uniform(torch.tensor([3, 7, 9]), 5, seed=0, stream="flip")
        >>> torch.equal(alone[0], among[1, :2])
        True
    """
    bits = hashes(keys, count, seed=seed, stream=stream)
    return _top(bits, _FLOAT_BITS).to(torch.float32) * 2.0**-_FLOAT_BITS


def normal(
    keys: Int64[Tensor, "batch"], count: int, *, seed: int, stream: str
) -> Float32[Tensor, "batch count"]:
    """Numbers from the standard normal distribution; devices may differ in the last bit. Arguments as in `hashes`.

    One hash serves two numbers: its upper half gives the radius, its lower half the angle (Box and Muller 1958).
    """
    bits = hashes(keys, (count + 1) // 2, seed=seed, stream=stream)
    # In float64: torch's vectorised and scalar float32 logarithms differ in the last bit, and which of them an element
    # meets depends on its place in the batch.
    radius = torch.sqrt(-2.0 * torch.log((_top(bits, 32).double() + 0.5) * 2.0**-32))
    angle = (bits & 0xFFFFFFFF).double() * (2.0 * math.pi * 2.0**-32)
    pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return pairs.flatten(1)[:, :count].to(torch.float32)


def permutation(n: int, *, seed: int, stream: str) -> Int64[Tensor, "n"]:
    """The numbers 0 to n - 1 in a random order; equal hashes keep their order."""
    keys = torch.arange(n, dtype=torch.int64)
    return torch.argsort(hashes(keys, 1, seed=seed, stream=stream)[:, 0], stable=True)


def _mix(state: Tensor) -> Tensor:
    """splitmix64's finaliser: every bit of the result depends on every bit of the state."""
    for shift, factor in _ROUNDS:
        state = (state ^ _shift_right(state, shift)).mul_(factor)
    return state.bitwise_xor_(_shift_right(state, _LAST_SHIFT))


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Shift as if unsigned: torch's own shift drags the sign along."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _top(bits: Tensor, count: int) -> Tensor:
    """The upper `count` bits as a number."""
    return _shift_right(bits, 64 - count)
