"""What heads share that give each block a head of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from cer_fusion.fusion.data.blocks import FloatArray, slices
from cer_fusion.fusion.errors import HeadConfigError
from cer_fusion.fusion.heads import make_head, todays
from cer_fusion.fusion.heads.base import Codes, Head
from cer_fusion.fusion.heads.out_of_fold import out_of_fold
from cer_fusion.fusion.heads.state import HeadState
from cer_fusion.kit.errors import nearest
from numpy.typing import NDArray

OF_MEMBERS = ("late", "stacking")
"""Heads that have members, and so cannot be one: a member sees a single block."""


class HeadOfMembers(Head):
    """A head that fits one member a block; what it makes of their answers is its own matter.

    Attributes
    ----------
    members_ : dict of block name to fitted head
    """

    member: str | Mapping[str, str]
    member_params: Mapping[str, Any] | None
    folds: int
    members_: dict[str, Head]

    def _fit_members(self, X: FloatArray, codes: Codes) -> None:
        self.members_ = {
            name: self._new(name).fit(np.ascontiguousarray(X[:, where]), codes)
            for name, where in slices(self.blocks_).items()
        }

    def _raw_proba(self, X: FloatArray) -> NDArray[np.float64]:
        """Return the members' own probabilities (members, n, k)."""
        parts = slices(self.blocks_)
        return np.stack([member.predict_proba(X[:, parts[name]]) for name, member in self.members_.items()])

    def _out_of_fold(self, X: FloatArray, codes: Codes) -> tuple[NDArray[np.float64], Codes]:
        """Return what members that had not seen them say of training rows, (members, r, k), and the rows' classes."""
        answers = []
        for name, where in slices(self.blocks_).items():
            proba, asked = out_of_fold(
                lambda name=name: self._new(name),  # type: ignore[misc]
                np.ascontiguousarray(X[:, where]),
                codes,
                k=len(self.classes_),
                folds=self.folds,
                seed=self.seed_,
            )
            answers.append(proba)
        return np.stack(answers), codes[asked]

    def _new(self, block: str) -> Head:
        """Return the unfitted member of a block."""
        name, params = self._choice(block)
        if name in OF_MEMBERS:
            raise HeadConfigError(f"a member of {self.name!r} cannot be {name!r} itself; name another head")
        shared = {"random_state": self.seed_, "threads": self.threads}
        return make_head(name, blocks={block: self.blocks_[block]}, **{**shared, **todays(params)})

    def _choice(self, block: str) -> tuple[str, Mapping[str, Any]]:
        params = self.member_params or {}
        if isinstance(self.member, str):
            return self.member, params
        for setting, named in (("member", self.member), ("member_params", params)):
            for one in named:
                if one not in self.blocks_:
                    raise HeadConfigError(
                        f"{setting} names its heads by block, and there is no block {one!r}; "
                        f"{nearest(str(one), self.blocks_)}"
                    )
        if block not in self.member:
            raise HeadConfigError(f"member names no head for block {block!r}; every block needs one")
        return self.member[block], params.get(block) or {}

    def _own_threads(self) -> dict[str, int]:
        return {name: count for member in self.members_.values() for name, count in member.fit_threads_.items()}

    def _state_of_members(self) -> HeadState:
        state = HeadState()
        for number, member in enumerate(self.members_.values()):
            state |= member.state().under(f"member{number}")
        return state

    def _restore_members(self, state: HeadState) -> None:
        self.members_ = {
            name: self._new(name).restore(
                state.member(f"member{number}"),
                classes=np.arange(len(self.classes_)),
                widths={name: width},
                seed=self.seed_,
            )
            for number, (name, width) in enumerate(self.blocks_.items())
        }
