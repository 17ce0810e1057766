"""Conditions that change the light but not the subject.

Light adds up and scales in linear intensity, while pixels are stored through the sRGB curve. These
functions therefore decode the pixels, change the light and encode it again. A change of every pixel by the
same rule is a table of 256 entries per image, which is exact and fast. The key of an image decides at
random whether the image gets more or less of something (e.g. light); the direction is the same at every
strength.

Left out: glare, vignettes and local colour casts, because they need a model of the lens or the scene.

Source:
    IEC 61966-2-1 (sRGB). Foi et al. 2008, "Practical Poissonian-Gaussian noise modeling and fitting for
    single-image raw-data". Kang et al. 2002, "Design of advanced color temperature control system for HDTV
    applications".
"""

import math

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from temper.maths.random import normal, uniform
from temper.stress.pool import Pool, Stressed

Images = UInt8[Tensor, "batch channels height width"]
Keys = Int64[Tensor, "batch"]

FULL_WELL = 1000.0
"""Electrons of a white pixel at full light: as in a small sensor at base gain."""
READ_NOISE = 3.0
"""Standard deviation in electrons: usual for small CMOS sensors."""
GAIN_SHARE = 0.5
"""Share of the lost stops that the camera's gain restores: half of the darkness remains, and all of the
noise."""
PENUMBRA = 0.15
"""Width of a shadow's soft edge, as a share of the image side."""
DAYLIGHT_K = 6500.0
"""Colour temperature of white in sRGB, in kelvin."""
_TO_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
"""Matrix from CIE XYZ to linear sRGB (IEC 61966-2-1)."""


def exposure(images: Images, keys: Keys, stops: float, *, seed: int, pool: Pool) -> Stressed:
    """Overexpose or underexpose by `stops`; a stop is a factor of two in light."""
    tables = torch.stack([_encode(_decode(_LEVELS) * 2.0**sign) for sign in (-stops, stops)])
    return Stressed(_look_up(images, tables[_coin(keys, seed=seed, stream="exposure")][:, None]))


def contrast(images: Images, keys: Keys, lost: float, *, seed: int, pool: Pool) -> Stressed:
    """Move the pixels towards the image's mean; `lost` is the share of the contrast that is removed."""
    mean = images.to(torch.float64).mean(dim=(1, 2, 3)).to(torch.float32)[:, None]
    return Stressed(_look_up(images, _to_pixels(mean + (_LEVELS * 255 - mean) * (1.0 - lost))[:, None]))


def gamma(images: Images, keys: Keys, octaves: float, *, seed: int, pool: Pool) -> Stressed:
    """Apply a wrong display curve: raise pixels to the power of 2 ** octaves or of its inverse."""
    tables = torch.stack([_to_pixels(_LEVELS ** (2.0**sign) * 255) for sign in (-octaves, octaves)])
    return Stressed(_look_up(images, tables[_coin(keys, seed=seed, stream="gamma")][:, None]))


def low_light(images: Images, keys: Keys, stops: float, *, seed: int, pool: Pool) -> Stressed:
    """Take away `stops` of light, restore half of them by the camera's gain, and add the noise of low light.

    Photons arrive at random (variance = their number, approximated as Gaussian), and reading adds Gaussian
    noise.
    """
    light = _decode(_LEVELS)[images.long()] * 2.0**-stops
    deviation = torch.sqrt(light * FULL_WELL + READ_NOISE**2) / FULL_WELL
    field = normal(keys, images[0].numel(), seed=seed, stream="low-light").view(images.shape)
    return Stressed(_encode((light + deviation * field) * 2.0 ** (stops * GAIN_SHARE)))


def shadow(images: Images, keys: Keys, blocked: float, *, seed: int, pool: Pool) -> Stressed:
    """Cast a shadow with a soft, straight edge over about half of the image.

    `blocked` is the share of the light that the shadow takes away.
    """
    height, width = images.shape[2:]
    rows = ((torch.arange(height, dtype=torch.float32) + 0.5) / height - 0.5)[None, :, None]
    columns = ((torch.arange(width, dtype=torch.float32) + 0.5) / width - 0.5)[None, None, :]
    # In float64: the last bit of a float32 sine depends on the position in the batch.
    angle, shift = uniform(keys, 2, seed=seed, stream="shadow").double()[:, :, None, None].unbind(1)
    across = rows * torch.sin(angle * 2 * math.pi) + columns * torch.cos(angle * 2 * math.pi)
    depth = ((across - (shift - 0.5) * 0.5) / PENUMBRA + 0.5).clamp(0.0, 1.0)
    return Stressed(_encode(_decode(_LEVELS)[images.long()] * (1.0 - blocked * depth.float())[:, None]))


def colour_temperature(images: Images, keys: Keys, mireds: float, *, seed: int, pool: Pool) -> Stressed:
    """Make the white balance `mireds` (1e6 / kelvin) too warm or too cold, at the same brightness.

    Works on colour images only.
    """
    gains = torch.stack([_lamp(sign) / _lamp(0.0) for sign in (-mireds, mireds)])
    tables = _encode(_decode(_LEVELS) * gains[:, :, None])
    return Stressed(_look_up(images, tables[_coin(keys, seed=seed, stream="colour-temperature")]))


def _lamp(mireds: float) -> Float32[Tensor, "3"]:
    """Return linear red, green and blue of a black body `mireds` warmer than daylight, at luminance 1."""
    kelvin = 1e6 / (1e6 / DAYLIGHT_K + mireds)
    inverse = 1e3 / kelvin
    if kelvin <= 4000:  # Kang's fit has two branches in x and, above 2222 K, two in y.
        x = -0.2661239 * inverse**3 - 0.2343589 * inverse**2 + 0.8776956 * inverse + 0.179910
        y = -0.9549476 * x**3 - 1.37418593 * x**2 + 2.09137015 * x - 0.16748867
    else:
        x = -3.0258469 * inverse**3 + 2.1070379 * inverse**2 + 0.2226347 * inverse + 0.240390
        y = 3.0817580 * x**3 - 5.87338670 * x**2 + 3.75112997 * x - 0.37001483
    return torch.tensor(_TO_SRGB) @ torch.tensor([x / y, 1.0, (1.0 - x - y) / y])


def _coin(keys: Keys, *, seed: int, stream: str) -> Int64[Tensor, "batch"]:
    """Return 0 or 1 for each image, at random."""
    return (uniform(keys, 1, seed=seed, stream=f"{stream} sign")[:, 0] < 0.5).long()


def _decode(pixels: Float32[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Convert stored values, 0..1, to linear light, 0..1."""
    return torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)


def _encode(light: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Convert linear light, clipped to 0..1, to pixels, through 4,096 levels (finer than a pixel's 256).

    The table replaces the power: it is faster, and gives the same result at every position in a batch.
    """
    return _ENCODED[(light.clamp(0.0, 1.0).sqrt() * 4095 + 0.5).long()]


def _to_pixels(values: Float32[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Round values and clip them to 0..255."""
    return (values + 0.5).clamp(0.0, 255.0).to(torch.uint8)


def _look_up(images: Images, tables: UInt8[Tensor, "batch planes 256"]) -> Images:
    """Map each pixel through its image's table: one table for all channels, or one per channel."""
    tables = tables.expand(-1, images.shape[1], -1)
    return torch.gather(tables, 2, images.flatten(2).long()).view(images.shape)


def _encoding_table() -> UInt8[Tensor, "4096"]:
    light = (torch.arange(4096, dtype=torch.float64) / 4095) ** 2
    stored = torch.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return (stored * 255 + 0.5).to(torch.uint8)


_LEVELS = torch.arange(256, dtype=torch.float32) / 255
_ENCODED = _encoding_table()
