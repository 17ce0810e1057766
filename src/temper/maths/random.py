"""Random numbers that depend on the example, not on the time at which they are drawn.

A generator with a state gives an image different numbers in another batch, on another device or in another
process. Here, every number is a hash of (seed, stream, key, position). The key identifies the example, the
stream names the use ("flip", "occlusion.patch"), and the position counts the numbers of one example. Nothing
else matters, so a run sees the same images when it is resumed, split over ranks or measured in other batches.

The hash is splitmix64's: a counter in steps of the golden ratio, then two multiply-xorshift rounds. torch's
int64 wraps on overflow as uint64 does. Only the right shift needs a mask, because torch's shift keeps the
sign.

Do not use these numbers for secrets. Left out: float64 numbers (24 random bits are enough for pixels) and
other distributions.

Source:
    Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    The constants are from Vigna's splitmix64.c.
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
"""Number of random bits that a float32 in [0, 1) holds exactly."""


def derive(seed: int, *words: str | int) -> int:
    """Derive a separate seed for each use of a seed; the result is stable across machines and versions.

    Args:
        seed: The main seed.
        words: The use of the derived seed, e.g. `"epoch", 3`.

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
    """Return 64 random bits for each key and position, on the keys' device.

    Args:
        keys: Numbers that identify the examples; equal keys get equal bits.
        count: Number of positions per key; it does not change the bits of the first positions.
        seed: The main seed.
        stream: The use of the bits; different streams are independent.
    """
    start = _mix(keys * _GOLDEN + derive(seed, stream))
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=keys.device) * _GOLDEN
    return _mix(start[:, None] + steps)


def uniform(
    keys: Int64[Tensor, "batch"], count: int, *, seed: int, stream: str
) -> Float32[Tensor, "batch count"]:
    """Return uniformly distributed numbers from [0, 1), exactly the same on every device.

    The arguments are those of `hashes`.

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
    """Return numbers from the standard normal distribution; devices may differ in the last bit.

    The arguments are those of `hashes`. One hash gives two numbers: its upper half gives the radius, its
    lower half the angle (Box and Muller 1958).
    """
    bits = hashes(keys, (count + 1) // 2, seed=seed, stream=stream)
    # In float64, because torch's vectorised and scalar float32 logarithms differ in the last bit, and the
    # position of an element in the batch decides which of them torch uses.
    radius = torch.sqrt(-2.0 * torch.log((_top(bits, 32).double() + 0.5) * 2.0**-32))
    angle = (bits & 0xFFFFFFFF).double() * (2.0 * math.pi * 2.0**-32)
    pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return pairs.flatten(1)[:, :count].to(torch.float32)


def permutation(n: int, *, seed: int, stream: str) -> Int64[Tensor, "n"]:
    """Return the numbers 0 to n - 1 in a random order; numbers with equal hashes keep their order."""
    keys = torch.arange(n, dtype=torch.int64)
    return torch.argsort(hashes(keys, 1, seed=seed, stream=stream)[:, 0], stable=True)


def _mix(state: Tensor) -> Tensor:
    """Apply splitmix64's finaliser: every bit of the result depends on every bit of the state."""
    for shift, factor in _ROUNDS:
        state = (state ^ _shift_right(state, shift)).mul_(factor)
    return state.bitwise_xor_(_shift_right(state, _LAST_SHIFT))


def _shift_right(bits: Tensor, places: int) -> Tensor:
    """Shift right as for unsigned numbers; torch's own shift extends the sign."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _top(bits: Tensor, count: int) -> Tensor:
    """Return the upper `count` bits as a number."""
    return _shift_right(bits, 64 - count)
