"""A row among its neighbours in time: a small transformer, or dilated convolution, over windows of a video's rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..data.blocks import FloatArray
from ..data.joined import Matrix
from ..data.moments import Moments
from ..errors import HeadConfigError, HeadDataError
from .base import Codes, HeadState, Proba, RowInfo, entered, expect_positive, expect_shape, refuse_unfinite_piece
from .labels import entered_time
from .layers import Drop, HiddenNetwork, Joined, Layer, Linear, Network, Norm, Taken, Windows
from .networks import NetworkHead
from .settings import libraries_limited, one_of, whole
from .tokens import Block

MOST_SLOTS: Final = 1001
MOST_LAYERS: Final = 64

ANSWERED: Final = 256
"""Windows answered at a time."""

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceHead(NetworkHead):
    """A network over windows of a video's rows in the order of their times, never across videos.

    ``fit(X, y, groups=videos, times=frame_numbers)`` and ``predict_proba(X, groups=videos, times=frame_numbers)``:
    rows in any order, all at once or a video at a time, one answer a row. A row without a video (an empty text) or
    without a time (NaN) is a window of one row, and so are all of plain pictures, where no groups are given; the log
    says how many are. Without `times`, rows of a group stand in the order of their times.

    A window is a grid of times one `step` apart around its row, and a slot without a row is masked: neighbours beyond
    a gap do not move up to it (`cer_fusion.fusion.data.moments.Moments.windows`). Each row goes through a hidden layer
    with ReLU, as in `mlp`. Over the slots go layers of attention with an embedding a slot (Vaswani et al., 2017,
    "Attention is all you need", §3) or of convolution with three taps, dilated 1, 2, 4 … (van den Oord et al., 2016,
    "WaveNet", §2.1; both ways in time unless `causal`). The answer is read from the row's hidden units beside what its
    slot became, so that a network that gains nothing from time is a perceptron.

    `NetworkHead` has the settings of training and further attributes.

    Attributes
    ----------
    step_ : float
        Time between slots.
    in_time_ : bool
        Whether it learned from windows of more than one row; it then wants groups when it is asked.
    centres_ : float64 array of shape (scenes, D)
        Where the scenes lie, in scaled columns.
    """

    name: ClassVar[str] = "sequence"
    learns_in_pieces: ClassVar[bool] = False
    learns_in_time: ClassVar[bool] = True

    kind: Literal["transformer", "convolution"] = "transformer"
    """What looks along the window."""

    window: int = 15
    """Slots of a window, the row's own with them; 1 looks at no neighbour."""

    causal: bool = False
    """Whether windows end with their row: later rows then cannot change an earlier answer."""

    step: float | None = None
    """Time between slots, in the unit of the times; None takes the median between neighbours in the training rows."""

    width: int = 128
    """Width of the hidden layers."""

    layers: int | None = None
    """Layers over the window; None: one of attention, or as many of convolution as reach its ends."""

    attention_heads: int = 4
    """Heads of attention a layer; they share the width."""

    scenes: int = 1
    """Scenes that videos are divided into by their mean rows (k-means). Each has networks of its own, which learn from
    its rows alone; a row is answered by all, weighed by how likely its scene is (of Gaussians of one variance)."""

    members: int = 2

    lr: float = 3e-3
    """Learning rate of Adam; attention finds its slots slowly with that of `mlp`."""

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        classes: Any = None,
        targets: Mapping[str, Any] | None = None,
        times: Any = None,
        videos: Any = None,
        basic: Any = None,
    ) -> SequenceHead:
        """Learn as `Head.fit` does; rows that count nothing, or have no label, are gaps in their videos."""
        return super().fit(X, y, groups, sample_weight, classes, targets, times, videos, basic)

    def predict_proba(self, X: Any, groups: Any = None, times: Any = None) -> Proba:
        """Return probabilities (n, k), float64, rows summing to one, columns in the order of `classes_`.

        Parameters
        ----------
        X : array or JoinedRows of shape (n, D)
        groups : array of shape (n,), optional
            The video of each row, an empty text for none; never needed where the head learned from single rows.
        times : array of shape (n,), optional
            Seconds or frame numbers as in `fit`; None: rows of a video stand in the order of their times.

        Raises
        ------
        HeadDataError
            If it learned from videos and is not told which rows are of which, or two rows of a video have one time.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self)
        rows = entered(self, X)
        if groups is None and self.in_time_:
            raise HeadDataError(
                "this head learned from videos, however: it was not told which rows are of which\n"
                "  predict_proba(X, groups=videos, times=frame_numbers); pictures that stand alone have groups of ''"
            )
        moments, _ = entered_time(self, None, times, groups, rows)
        windows = self._slots(moments, len(rows))
        order = np.arange(len(rows)) if moments is None else np.lexsort((moments.times, moments.videos))
        found = np.empty((len(rows), len(self.classes_)))
        with libraries_limited(self.threads):
            for start in range(0, len(rows), ANSWERED):
                asked = order[start : start + ANSWERED]
                found[asked] = self._window_proba(rows, windows[asked])
        return found

    def predict(self, X: Any, groups: Any = None, times: Any = None) -> NDArray[Any]:
        """Return the most probable label a row (n,); of equally probable ones the first in `classes_`."""
        proba = self.predict_proba(X, groups, times)
        return np.asarray(self.classes_[proba.argmax(axis=1)])

    def _check(self) -> None:
        super()._check()
        one_of("kind", self.kind, ("transformer", "convolution"))
        whole("window", self.window, most=MOST_SLOTS)
        for name in ("width", "attention_heads", "scenes"):
            whole(name, getattr(self, name))
        if self.layers is not None:
            whole("layers", self.layers, most=MOST_LAYERS)
        if self.step is not None and not 0 < self.step < math.inf:
            raise HeadConfigError(f"step must be finite and positive, got {self.step!r}")
        if self.kind == "transformer" and self.width % self.attention_heads:
            raise HeadConfigError(
                f"width must be a multiple of attention_heads, got {self.width} for {self.attention_heads} heads"
            )

    def _fit(self, X: Matrix, codes: Codes, info: RowInfo) -> None:
        self._check()
        moments = info.moments
        self.in_time_ = moments is not None and moments.filmed and self.window > 1
        self.step_ = self.step or (1.0 if moments is None else moments.usual_step())
        told = (
            "no row has a video"
            if moments is None
            else f"{moments.alone:,} of {len(codes):,} rows have no video or time"
        )
        if moments is None or moments.alone:
            logger.info("%s: each is a window of one row", told)
        elif not self.in_time_:
            logger.info("no window holds two rows: time has nothing to say")
        scene, left_out = self._scenes(X, moments, len(codes))
        if left_out is not None:
            one = np.unique(codes[~left_out[0]]).size
            logger.info("rows of the scenes: %s (the first has %d classes)", np.bincount(scene).tolist(), one)
        self.networks_ = self._trained(X, codes, info, left_out)
        self._measure_scenes(X, scene)

    def _scenes(self, X: Matrix, moments: Moments | None, n: int) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
        """Return the scene of each row (n,), and which rows (members, n) each network does not learn from."""
        if self.scenes == 1:
            return np.zeros(n, np.int64), None
        from sklearn.cluster import KMeans

        from .scaling import BlockScaler

        rows = BlockScaler(self.standardize, self.blocks_).fit(X).transform(np.asarray(X))
        alone = np.full(n, -1) if moments is None else moments.videos
        video = np.unique(np.where(alone < 0, -1 - np.arange(n), alone), return_inverse=True)[1]
        means = np.zeros((int(video.max()) + 1, rows.shape[1]))
        np.add.at(means, video, rows)
        means /= np.bincount(video)[:, None]
        if len(means) < self.scenes:
            raise HeadDataError(f"{self.scenes} scenes need as many videos, however: there are {len(means)}")
        found = KMeans(self.scenes, n_init=4, random_state=self.seed_).fit_predict(means)[video].astype(np.int64)
        member = np.arange(self.members * self.scenes) % self.scenes
        return found, found[None] != member[:, None]

    def _measure_scenes(self, X: Matrix, scene: NDArray[np.int64]) -> None:
        """Keep where scenes lie, and the variance of a column about them."""
        (trained,) = self.networks_
        rows = trained.scaler.transform(np.asarray(X)).astype(np.float64) if self.scenes > 1 else np.zeros((1, 1))
        scene = scene if self.scenes > 1 else np.zeros(1, np.int64)
        self.centres_ = np.stack([rows[scene == one].mean(axis=0) for one in range(self.scenes)])
        self.variance_ = float(max(np.square(rows - self.centres_[scene]).mean(), 1e-12))

    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        count = self.layers
        if count is None:
            reach = self.window - 1 if self.causal else self.window // 2
            count = 1 if self.kind == "transformer" else max(1, math.ceil(math.log2(reach + 1)))
        return SequenceNetwork(
            sum(widths.values()), classes, members=self.members * self.scenes, width=self.width, slots=self.window,
            own=self._own_slot(), layers=count, heads=self.attention_heads if self.kind == "transformer" else None,
        )  # fmt: skip

    def _own_slot(self) -> int:
        return self.window - 1 if self.causal else self.window // 2

    def _windows(self, info: RowInfo) -> NDArray[np.int64] | None:
        return None if info.moments is None else self._slots(info.moments, len(info.moments.videos))

    def _slots(self, moments: Moments | None, n: int) -> NDArray[np.int64]:
        if moments is not None:
            return moments.windows(size=self.window, causal=self.causal, step=self.step_)
        found = np.full((n, self.window), -1)
        found[:, self._own_slot()] = np.arange(n)
        return found

    def _window_proba(self, X: Matrix, windows: NDArray[np.int64]) -> Proba:
        """Return probabilities (b, k) of windows (b, w) over rows that are read as they are needed."""
        (trained,) = self.networks_
        needed, where = np.unique(windows, return_inverse=True)
        where = where.reshape(windows.shape) - (needed[0] < 0)
        needed = needed[needed >= 0]
        rows = np.asarray(X[needed])
        if not np.isfinite(rows).all():
            first = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            refuse_unfinite_piece(self, int(needed[first]), rows[first : first + 1])
        scaled = trained.scaler.transform(rows).astype(np.float64)
        taken = Windows(torch.from_numpy(scaled), torch.from_numpy(where))
        with torch.no_grad():
            proba = trained.network.logits(taken).softmax(-1).numpy()  # (m, b, k)
        if self.scenes == 1:
            return np.asarray(proba.mean(axis=0))
        own = scaled[where[:, self._own_slot()]]
        apart = np.stack([np.square(own - centre).sum(axis=1) for centre in self.centres_], axis=1)  # (b, scenes)
        likely = np.exp((apart.min(axis=1, keepdims=True) - apart) / (2 * self.variance_))
        likely /= likely.sum(axis=1, keepdims=True)
        by_scene = proba.reshape(self.members, self.scenes, *proba.shape[1:]).mean(axis=0)  # (scenes, b, k)
        return np.asarray(np.einsum("bs,sbk->bk", likely, by_scene))

    def _proba(self, X: FloatArray) -> Proba:
        raise AssertionError("windows are asked about, not rows")

    def _state(self) -> HeadState:
        values = {"step": self.step_, "in_time": self.in_time_, "variance": self.variance_}
        return super()._state() | HeadState(arrays={"centres": self.centres_}, values=values)

    def _restore(self, state: HeadState) -> None:
        self._check()
        super()._restore(state)
        self.step_ = expect_positive("step", state.values["step"])
        self.variance_ = expect_positive("variance", state.values["variance"])
        self.in_time_ = bool(state.values["in_time"])
        columns = self.n_features_in_ if self.scenes > 1 else 1
        self.centres_ = expect_shape("centres", state.arrays["centres"], (self.scenes, columns))


class SequenceNetwork(HiddenNetwork):
    """A hidden layer on each row, layers over the window of each, and a linear classifier on both."""

    def __init__(
        self, inputs: int, classes: int, *, members: int, width: int, slots: int, own: int, layers: int,
        heads: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.slots, self.own = slots, own
        self.hidden = Joined(members, inputs, width)
        self.place = Places(members, slots, width)
        self.over_time = nn.ModuleList(
            Dilated(members, width, 2**number) if heads is None else Block(members, width, heads)
            for number in range(layers)
        )
        self.norm = Norm(members, width)
        self.answer = Linear(members, 2 * width, classes)

    def forward(self, rows: Taken, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of windows, or of rows (b, D) that stand alone."""
        return self.answered(self.units(rows, drop), drop)

    def units(self, rows: Taken, drop: Drop) -> Tensor:
        """Return the hidden units of rows beside what their slots became (m, b, 2 * width)."""
        if not isinstance(rows, Windows):
            where = torch.full((len(rows), self.slots), -1, device=rows.device)
            where[:, self.own] = torch.arange(len(rows), device=rows.device)
            rows = Windows(rows, where)
        hidden = self.hidden(rows.rows).relu()  # (m, u, width)
        there = rows.where >= 0  # (b, slots)
        tokens = drop(hidden)[:, rows.where.clamp_min(0)] * there[..., None]  # (m, b, slots, width)
        tokens = self.place(tokens)
        for layer in self.over_time[:-1]:
            tokens = layer(tokens, there)
        around = self.norm(self.over_time[-1](tokens, there, self.own)[:, :, 0])
        return torch.cat([hidden[:, rows.where[:, self.own]], around], -1)

    def answered(self, units: Tensor, drop: Drop) -> Tensor:
        """Return logits (m, b, k) of what `units` gave."""
        return self.answer(drop(units))


class Places(Layer):
    """An embedding a slot, which says how far from the row it is."""

    def __init__(self, members: int, slots: int, width: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.empty(members, 1, slots, width))

    def draw(self, generator: torch.Generator) -> None:
        """Draw the embeddings with a standard deviation of 0.3, as large as hidden units are."""
        with torch.no_grad():
            self.place.normal_(0, 0.3, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (m, b, slots, width) with their places."""
        return tokens + self.place


class Dilated(Layer):
    """Three taps so many slots apart, added to what was there; masked slots give nothing."""

    def __init__(self, members: int, width: int, apart: int) -> None:
        super().__init__()
        self.apart = apart
        self.before = Norm(members, width)
        self.taps = Linear(members, 3 * width, width)

    def forward(self, tokens: Tensor, there: Tensor, only: int | None = None) -> Tensor:
        """Return tokens (m, b, slots, width), or `only` the one of that place (m, b, 1, width)."""
        m, b, slots, width = tokens.shape
        z = self.before(tokens.flatten(1, 2)).view(tokens.shape) * there[..., None]
        padded = nn.functional.pad(z, (0, 0, self.apart, self.apart))  # (m, b, slots + 2 * apart, width)
        first, count = (0, slots) if only is None else (only, 1)
        taps = torch.cat([padded[:, :, first + i * self.apart :][:, :, :count] for i in range(3)], -1)
        found = self.taps(taps.view(m, b * count, 3 * width)).relu().view(m, b, count, width)
        return tokens[:, :, first : first + count] + found
