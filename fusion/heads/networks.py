"""What heads that PyTorch trains have in common: settings, fitting, answering, keeping."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Final, Literal

import numpy as np
import torch
from cer_fusion.fusion.data.blocks import FloatArray
from cer_fusion.fusion.data.joined import Matrix
from cer_fusion.fusion.heads.base import Codes, Head, Proba, expect_shape
from cer_fusion.fusion.heads.class_weights import factors
from cer_fusion.fusion.heads.devices import chosen_device, threads_set_to
from cer_fusion.fusion.heads.mlp_config import Standardize
from cer_fusion.fusion.heads.layers import Network
from cer_fusion.fusion.heads.network_training import Training, train_network
from cer_fusion.fusion.heads.ranges import whole
from cer_fusion.fusion.heads.scaling import BlockScaler
from cer_fusion.fusion.heads.state import HeadState
from numpy.typing import NDArray
from torch import Tensor, nn

CHUNK: Final = 1024
"""Rows predicted at a time."""


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkHead(Head):
    """A head whose network PyTorch trains by automatic differentiation; members' probabilities are averaged.

    A subclass names its network and its own settings. All learn from rows that stay on the disk too, as `mlp` does.
    Answers are computed on the CPU in float64 by the network that was trained: the same for one row as for a thousand,
    up to the last digits.

    Attributes
    ----------
    network_ : Network
        The trained network, float64, on the CPU.
    epochs_ : int
        Epochs that the kept weights have seen.
    losses_ : list of float
        Mean training loss of each epoch.
    window_ : int
        Rows that were shuffled at a time; 0 where all of them were.
    device_, threads_ : str, int
        Where the head was trained, and with how many CPU threads.
    """

    learns_in_pieces: ClassVar[bool] = True

    blocks: Mapping[str, int] | None = field(default=None, kw_only=False)
    """Block name to width in column order; None is one block."""

    epochs: int = 15
    """Passes over the training rows."""

    batch_size: int = 128
    """Rows a step; the last batch of an epoch may hold fewer."""

    lr: float = 1e-3
    """Peak learning rate of AdamW."""

    schedule: Literal["constant", "cosine"] = "cosine"
    """`cosine` warms up over a twentieth of the steps, then falls to zero along half a cosine."""

    weight_decay: float = 1e-2
    """Decoupled decay of weight matrices, as a factor on lr; biases, scales and embeddings do not decay."""

    dropout: float = 0.5
    """Probability of leaving out a unit while training, in [0, 1)."""

    standardize: Standardize = "power"
    """What happens to each block first; `cer_fusion.fusion.heads.scaling` explains the words."""

    label_smoothing: float = 0.1
    """Share of every target spread over the classes as often as they occur, in [0, 1)."""

    class_weight: Any = None
    """Factor on each class's loss: None, `balanced` (inverse frequency) or one a label; their mean over rows is one."""

    logit_adjust: float = 0.5
    """Factor on the log class frequency that is added to the logits while training only (Menon et al., 2021, "Long-tail
    learning via logit adjustment", eq. 10); 1 aims at balanced accuracy, 0 at accuracy."""

    members: int = 4
    """Networks whose probabilities are averaged; they share batches and differ in first weights and dropout."""

    early_stop: float = 0.0
    """Share of each class's training rows kept aside to choose the epoch, in [0, 1); 0 trains on all to the end."""

    patience: int = 10
    """Epochs without improvement on the rows kept aside before training stops."""

    device: str = "auto"
    """A PyTorch device, or `auto`: a GPU when there is one. The choice is logged and kept in `device_`."""

    threads: int | None = None
    """CPU threads while training; None leaves PyTorch's number. The number used is kept in `threads_`."""

    random_state: Any = 0
    """With an integer and equal threads, device and library versions, a fit on a CPU repeats to the bit."""

    @abstractmethod
    def _network(self, widths: Mapping[str, int], classes: int) -> Network:
        """Return the network for blocks of these widths, its weights not yet drawn; refuse settings it cannot have."""

    def _fit(self, X: Matrix, codes: Codes) -> None:
        training = Training(**{one.name: getattr(self, one.name) for one in fields(Training)})
        training.check()
        device = chosen_device(self.device)
        weights = factors(self.class_weight, self.classes_, codes)
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        network = self._built()
        with threads_set_to(self.threads) as self.threads_:
            course = train_network(
                network, X, self.scaler_.transform, codes, training, weights, seed=self.seed_, device=device
            )
        self.network_ = _for_answers(network)
        self.device_ = str(device)
        self.epochs_, self.losses_, self.window_ = course.epochs, course.losses, course.window
        self.n_iter_ = len(course.losses)

    def _proba(self, X: FloatArray) -> Proba:
        def proba(rows: Tensor) -> Tensor:
            return self.network_.logits(rows).softmax(-1).mean(0)

        return self._asked(X, proba)

    def _asked(self, X: FloatArray, question: Callable[[Tensor], Tensor]) -> NDArray[np.float64]:
        """Return what `question` says about standardised rows (b, D) as float64, rows on its first axis."""
        parts = []
        for start in range(0, len(X), CHUNK):
            rows = self.scaler_.transform(X[start : start + CHUNK]).astype(np.float64)
            with torch.no_grad():
                parts.append(question(torch.from_numpy(rows)).numpy())
        return np.concatenate(parts)

    def _own_threads(self) -> dict[str, int]:
        return {"torch": self.threads_}

    def _built(self) -> Network:
        whole("members", self.members)
        return self._network(self.blocks_, len(self.classes_))

    def _state(self) -> HeadState:
        weights = {f"network.{name}": one.numpy(force=True) for name, one in self.network_.named_parameters()}
        values = {"device": self.device_, "threads": self.threads_, "epochs": self.epochs_, "window": self.window_}
        return HeadState(
            arrays={**{name: one.astype(np.float32) for name, one in weights.items()}, **self.scaler_.state()},
            values=values,
        )

    def _restore(self, state: HeadState) -> None:
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(state.arrays)
        self.network_ = _for_answers(self._refilled(state.arrays))
        values = state.values
        self.device_, self.threads_ = str(values["device"]), int(values["threads"])
        self.epochs_, self.window_ = int(values["epochs"]), int(values["window"])

    def _refilled(self, arrays: Mapping[str, NDArray[Any]]) -> Network:
        """Return the network with kept weights; what does not fit is refused before memory is taken for it."""
        try:
            with torch.device("meta"):
                network = self._built()
        except RuntimeError as error:  # more numbers than PyTorch can count
            raise ValueError(f"there is no network of these settings: {str(error).splitlines()[0]}") from error
        for path, module in network.named_modules():
            for name, expected in module.named_parameters(recurse=False):
                key = ".".join(one for one in ("network", path, name) if one)
                array = expect_shape(key, arrays[key], tuple(expected.shape)).astype(np.float32)
                setattr(module, name, nn.Parameter(torch.from_numpy(array)))
        return network


def _for_answers(network: Network) -> Network:
    return network.to("cpu", torch.float64).requires_grad_(False)
