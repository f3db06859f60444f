"""A confusion matrix as an HTML table, laid out as in the paper's figure 2: shares of the true class, and counts."""

from __future__ import annotations

from cer_fusion.fusion.judging.metrics import Scores
from cer_fusion.fusion.page.markup import element, escape, joined

DEEP = 55
"""Share in percent above which a cell is so dark that its text is light."""


def matrix_html(title: str, scores: Scores) -> str:
    """Write one matrix; cells are coloured by their share, a class without rows is left blank."""
    names = [name.replace("_", " ") for name in scores.classes]
    head = "".join(element("th", element("span", escape(name)), scope="col") for name in names)
    rows = [
        element("tr", element("th", f"{escape(name)} {element('small', str(n))}", scope="row") + _cells(scores, c))
        for c, (name, n) in enumerate(zip(names, scores.supports.tolist(), strict=True))
    ]
    words = f"accuracy {100 * scores.accuracy:.1f} %, macro F1 {100 * scores.macro_f1:.1f} %, n = {scores.n}"
    caption = element("caption", f"{escape(title)} {element('small', escape(words))}")
    corner = element("td", "true \\ predicted", cls="corner")
    table = element(
        "table",
        joined(caption, element("thead", element("tr", corner + head)), element("tbody", joined(*rows))),
        cls="matrix",
    )
    return element("div", table, cls="scroll", tabindex="0", role="region", aria_label=f"confusion matrix, {title}")


def _cells(scores: Scores, true: int) -> str:
    support = int(scores.supports[true])
    if not support:
        return element("td", "–") * len(scores.classes)
    return "".join(_cell(int(count), support, true == called) for called, count in enumerate(scores.confusion[true]))


def _cell(count: int, support: int, right: bool) -> str:
    share = 100 * count / support
    words = [*(["deep"] if share > DEEP else []), *(["right"] if right else []), *(["none"] if not count else [])]
    return element(
        "td", f"{share:.0f}{element('small', str(count))}", cls=" ".join(words), style=f"--share:{share:.1f}"
    )
