"""Arrays in the IDX format of the MNIST family."""

import numpy as np


def parse_idx(content: bytes) -> np.ndarray:
    """Parse an array in the IDX format of the MNIST family.

    The bytes are: 0, 0, type (8: uint8), number of dimensions, big-endian sizes, values.

    Raises:
        ValueError: If the content is not IDX of uint8, or its length does not match its sizes.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"not an IDX file of unsigned bytes: it starts with {content[:4].hex(' ')}")
    dims = content[3]
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=dims, offset=4))
    body = np.frombuffer(content, np.uint8, offset=4 + 4 * dims)
    if body.size != np.prod(shape):
        raise ValueError(f"an IDX file of shape {shape} has {body.size} bytes; it is cut off or damaged")
    return body.reshape(shape)
