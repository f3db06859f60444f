"""Colours of pages and figures, and which text can be read on them: 4.5 : 1 or more, in light and in dark."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

Rgb: TypeAlias = tuple[float, float, float]

READABLE: Final = 4.5
"""The least contrast of a text with its ground (WCAG 2.2, success criterion 1.4.3)."""

INK, GREY, PAPER, LINE = "#1a1a1a", "#6b6b6b", "#ffffff", "#e6e6e6"
"""Of figures: text, secondary text, background, grid. A page turns them to its own."""

ON_LIGHT, ON_DARK = "#010101", "#fefefe"
"""Text on coloured cells, in a figure or a page: one of the two has a contrast of 4.54 or more with every colour. They
are not the black and white that a page turns with its scheme: a cell that stays as it is keeps its text."""

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
"""Of the Okabe-Ito palette, told apart with every common colour blindness."""


def luminance(colour: str | Rgb) -> float:
    """Return the relative luminance of an sRGB colour, 0-1: ``#rrggbb`` or three shares (WCAG 2.2, definitions)."""
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4
        for one in (_rgb(colour) if isinstance(colour, str) else colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str | Rgb, other: str | Rgb) -> float:
    """Return the contrast ratio of two colours, 1-21 (WCAG 2.2, definitions)."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def readable(ground: str | Rgb) -> str:
    """Return the colour of text on this ground: the one of `ON_LIGHT` and `ON_DARK` with the higher contrast."""
    return max((ON_LIGHT, ON_DARK), key=lambda text: contrast(text, ground))


def blended(share: float, one: str, other: str) -> Rgb:
    """Return ``color-mix(in srgb, one share, other)`` as CSS has it; `share` is 0-1."""
    first, second, third = (share * a + (1 - share) * b for a, b in zip(_rgb(one), _rgb(other), strict=True))
    return first, second, third


def _rgb(colour: str) -> Rgb:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """The colours of a page, ``#rrggbb``."""

    paper: str
    """Behind the sections."""
    card: str
    """Behind the text of a section."""
    ink: str
    """Text."""
    muted: str
    """Secondary text."""
    rule: str
    """Thin lines; behind the entry of the contents that is pointed at."""
    accent: str
    """What stands out: the best cells, bars, focus."""
    warm: str
    """The other colour of bars, and warnings."""
    shallow: str
    """A matrix's cell at 0 %."""
    deep: str
    """A matrix's cell at 100 %; those between are blended of the two."""

    def cell(self, share: float) -> Rgb:
        """Return the colour of a matrix's cell, `share` in percent."""
        return blended(share / 100, self.deep, self.shallow)

    @property
    def turn(self) -> float:
        """The share in percent above which a cell's text is that of the deep end.

        It lies between two tenths, and no share that is written with one decimal is on it.
        """
        last = readable(self.deep)
        return bisect_left(range(1001), True, key=lambda tenths: readable(self.cell(tenths / 10)) == last) / 10 - 0.05

    def variables(self) -> str:
        """Return the colours as CSS variables, with what follows from them."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        named |= {"on-shallow": readable(self.shallow), "on-deep": readable(self.deep), "turn": f"{self.turn:.2f}"}
        return " ".join(f"--{name}: {value};" for name, value in named.items())


LIGHT: Final = Scheme(
    paper="#f4f5f7", card="#ffffff", ink="#1a1a1a", muted="#5a626d", rule="#e1e4e9", accent="#0072b2", warm="#b34a00",
    shallow="#f2f8fb", deep="#00487a",
)  # fmt: skip

DARK: Final = Scheme(
    paper="#101317", card="#181c22", ink="#e8eaed", muted="#9aa4b0", rule="#2b323b", accent="#56b4e9", warm="#f0a45d",
    shallow="#1b242c", deep="#56b4e9",
)  # fmt: skip

PRINTED: Final = replace(LIGHT, paper="#ffffff", ink="#000000", muted="#444444", rule="#bbbbbb")


def stylesheet_colours() -> str:
    """Return the rules that give a page the colours of the reader's scheme, and of paper."""
    return (
        f":root {{ color-scheme: light dark; {LIGHT.variables()} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {DARK.variables()} }} }}\n"
        f"@media print {{ :root {{ color-scheme: light; {PRINTED.variables()} }} }}"
    )
