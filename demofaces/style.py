"""Style: everything about a drawn face that is not its expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ..kit.errors import nearest
from .errors import StyleError

Colour = tuple[int, int, int]
Haircut = Literal["bald", "bob", "bun", "crop", "curly", "fringe", "long", "parted"]
HAIRCUTS: tuple[Haircut, ...] = get_args(Haircut)

SKINS: tuple[Colour, ...] = (
    (255, 222, 198),
    (248, 208, 176),
    (236, 188, 150),
    (214, 160, 120),
    (184, 128, 90),
    (160, 110, 78),
    (134, 90, 66),
)
HAIRS: tuple[Colour, ...] = (
    (38, 30, 34),
    (66, 44, 34),
    (104, 66, 40),
    (148, 96, 52),
    (206, 160, 92),
    (166, 74, 40),
    (150, 148, 152),
)
IRISES: tuple[Colour, ...] = ((86, 56, 34), (64, 92, 120), (80, 110, 70), (110, 84, 50), (70, 76, 88))
CLOTHES: tuple[Colour, ...] = (
    (84, 122, 168),
    (190, 98, 92),
    (96, 146, 118),
    (214, 170, 92),
    (128, 104, 156),
    (86, 92, 108),
)
BACKGROUNDS: tuple[Colour, ...] = (
    (214, 228, 236),
    (238, 226, 208),
    (220, 234, 214),
    (236, 216, 220),
    (222, 218, 238),
    (228, 228, 224),
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """Pose, person and picture of one drawn face. The defaults give a calm frontal portrait."""

    roll_deg: float = 0.0
    """Head tilt in the picture plane, clockwise."""
    yaw_deg: float = 0.0
    """Head turn; positive looks to the picture's right."""
    pitch_deg: float = 0.0
    """Nod; positive looks down."""
    scale: float = 1.0
    """Size of the head against the picture."""
    shift_x: float = 0.0
    """Offset to the right, in picture widths."""
    shift_y: float = 0.0
    """Offset downwards, in picture widths."""
    skin: Colour = SKINS[1]
    hair: Colour = HAIRS[1]
    iris: Colour = IRISES[0]
    clothes: Colour = CLOTHES[0]
    background: Colour = BACKGROUNDS[0]
    haircut: Haircut = "parted"
    face_width: float = 1.0
    """Width of the head against the usual."""
    jaw_width: float = 1.0
    """Width of the jaw against the usual."""
    eye_size: float = 1.0
    nose_size: float = 1.0
    lip_fullness: float = 1.0
    brow_weight: float = 1.0
    """Thickness of the brows against the usual."""
    line_width: float = 1.0
    """Thickness of drawn lines against the usual."""
    asymmetry: float = 0.0
    """-1..1: how much more one half of the face moves than the other (at most a twelfth)."""
    light: float = -0.6
    """Where the light comes from, -1 (left) to 1 (right)."""
    contrast: float = 1.0
    """Strength of the shading."""
    exposure: float = 1.0
    """Brightness factor of the finished picture."""
    blur_px: float = 0.0
    """Standard deviation of a final blur, in pixels of a picture 100 wide."""
    noise: float = 0.0
    """Standard deviation of sensor noise, in grey levels of 255."""
    noise_seed: int = 0
    """Seed of that noise."""

    def __post_init__(self) -> None:
        """Refuse a haircut that does not exist and sizes that are not positive.

        Raises
        ------
        StyleError
            If the haircut is unknown, or a scale or width is not positive.
        """
        if self.haircut not in HAIRCUTS:
            raise StyleError(f"no haircut is called {self.haircut!r}; {nearest(self.haircut, HAIRCUTS)}")
        for name in ("scale", "face_width", "jaw_width", "eye_size", "nose_size", "lip_fullness", "exposure"):
            if not getattr(self, name) > 0:
                raise StyleError(f"a style's {name} must be positive, however: {name}={getattr(self, name)!r}")


def sample_style(rng: np.random.Generator) -> Style:
    """Draw a person, a pose and a camera at random."""

    def around(centre: float, spread: float) -> float:
        return float(np.clip(rng.normal(centre, spread), centre - 2 * spread, centre + 2 * spread))

    def one_of(palette: tuple[Colour, ...], jitter: int) -> Colour:
        r, g, b = (
            int(np.clip(c + rng.integers(-jitter, jitter + 1), 0, 255)) for c in palette[rng.integers(len(palette))]
        )
        return r, g, b

    skin_index = int(rng.integers(len(SKINS)))
    hairs = HAIRS if skin_index < 4 else HAIRS[:3]  # dark skin with mostly dark hair, as people have
    return Style(
        roll_deg=around(0, 4),
        yaw_deg=around(0, 5),
        pitch_deg=around(0, 3),
        scale=around(0.98, 0.03),
        shift_x=around(0, 0.012),
        shift_y=around(0, 0.010),
        skin=one_of(SKINS[skin_index : skin_index + 1], 6),
        hair=one_of(hairs, 8),
        iris=one_of(IRISES if skin_index < 4 else IRISES[:1], 8),
        clothes=one_of(CLOTHES, 12),
        background=one_of(BACKGROUNDS, 10),
        haircut=HAIRCUTS[rng.integers(len(HAIRCUTS))],
        face_width=around(1.0, 0.03),
        jaw_width=around(1.0, 0.05),
        eye_size=around(1.0, 0.06),
        nose_size=around(1.0, 0.08),
        lip_fullness=around(1.0, 0.12),
        brow_weight=around(1.0, 0.15),
        line_width=around(1.0, 0.12),
        asymmetry=around(0.0, 0.4),
        light=float(rng.choice([-1.0, 1.0])) * rng.uniform(0.3, 1.0),
        contrast=around(1.0, 0.15),
        exposure=around(1.0, 0.035),
        blur_px=float(rng.uniform(0.0, 0.5)),
        noise=float(rng.uniform(0.5, 4.0)),
        noise_seed=int(rng.integers(2**31)),
    )
