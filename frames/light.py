"""High dynamic range made into what screens and networks know: PQ and HLG to 8-bit sRGB-like values of BT.709.

Values become light on a screen (BT.2100: the PQ curve of SMPTE ST 2084; HLG with a system gamma of 1.2 at 1,000 cd/m2),
light relative to white paper at 203 cd/m2 (BT.2408), colours of BT.2020 those of BT.709 (BT.2087), and what is brighter
than half of white is rolled off instead of clipped, so that a face keeps its tones and a window behind it its shape.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

PQ, HLG = 16, 18
"""Transfer characteristics by their numbers in ITU-T H.273."""
NAMES = {PQ: "PQ", HLG: "HLG"}
CODE = 1
"""Version of what stands here; part of the identity."""
_WHITE_NITS = 203.0
_HLG_PEAK_NITS = 1000.0
_HLG_GAMMA = 1.2
_KNEE = 0.5  # of white, up to which light stays as it is
_LUMA_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)
_TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # BT.2087, table 4: linear BT.2020 -> BT.709
_STEPS = 4096


def to_sdr(values: NDArray[np.uint16], transfer: int) -> NDArray[np.uint8]:
    """Tone-map one picture.

    Parameters
    ----------
    values : ndarray of shape (h, w, 3), uint16
        RGB of BT.2020 by the transfer, full range.
    transfer : int
        `PQ` or `HLG`.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        RGB of BT.709.
    """
    light = _curve(transfer)[values]  # (h, w, 3), white is 1
    if transfer == HLG:
        scene = light @ _LUMA_2020
        light *= (np.maximum(scene, 1e-6) ** (_HLG_GAMMA - 1))[..., None] * np.float32(_HLG_PEAK_NITS / _WHITE_NITS)
    light = np.maximum(light @ _TO_709.T, 0)
    peak = light.max(axis=2, keepdims=True)
    light *= _rolled_off(peak) / np.maximum(peak, 1e-6)
    shown: NDArray[np.uint8] = _shown()[np.minimum(light * (_STEPS - 1) + 0.5, _STEPS - 1).astype(np.int32)]
    return shown


def _rolled_off(light: FloatArray) -> FloatArray:
    """Light above the knee approaches white: straight, then exponential, with one slope where they meet."""
    rest = np.float32(1 - _KNEE)
    over = np.maximum(light - np.float32(_KNEE), 0)
    rolled: FloatArray = np.minimum(light, np.float32(_KNEE)) + rest * (1 - np.exp(-over / rest))
    return rolled


@functools.cache
def _curve(transfer: int) -> FloatArray:
    """16-bit values to light: of PQ relative to white, of HLG the scene's, 0 to 1."""
    x = np.arange(65536) / 65535
    if transfer == PQ:  # SMPTE ST 2084, eq. 4.1
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = x ** (1 / m2)
        light = 10000 / _WHITE_NITS * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:  # BT.2100, table 5, the inverse of HLG's OETF
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(x <= 0.5, x**2 / 3, (np.exp((x - c) / a) + b) / 12)
    return light.astype(np.float32)


@functools.cache
def _shown() -> NDArray[np.uint8]:
    """Light, in steps of white, to 8-bit values by BT.1886's inverse (gamma 2.4), as BT.709 pictures are meant."""
    values: NDArray[np.uint8] = np.rint(255 * (np.arange(_STEPS) / (_STEPS - 1)) ** (1 / 2.4)).astype(np.uint8)
    return values
