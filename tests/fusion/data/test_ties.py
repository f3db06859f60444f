from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cer_fusion.fusion.data.rows import Rows, tied
from cer_fusion.fusion.errors import ReportError


def rows(groups: Iterable[str] | None) -> Rows:
    named = None if groups is None else tuple(groups)
    n = 6
    return Rows(
        blocks={"vit": np.zeros((n, 1), np.float32)},
        y=np.arange(n) % 2,
        classes=("a", "b"),
        ids=tuple("uvwxyz"),
        groups=named,
    )


def test_rows_without_a_tie_keep_their_groups():
    groups = ("p", "p", "q", "", "", "")
    assert tied(rows(groups), []).groups == groups


def test_ties_join_whole_groups_and_reach_through_each_other():
    found = tied(rows(["p", "p", "q", "q", "", ""]), [("v", "w"), ("z", "y")]).groups
    assert found == ("p", "p", "p", "p", "as y", "as y")


def test_a_name_that_is_no_row_is_refused():
    with pytest.raises(ReportError, match="there is no row 'nobody'"):
        tied(rows(None), [("u", "nobody")])


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["", "p", "q"]), min_size=6, max_size=6),
    st.lists(st.tuples(st.sampled_from("uvwxyz"), st.sampled_from("uvwxyz")), max_size=6),
)
def test_two_rows_share_a_group_exactly_if_a_chain_of_ties_and_groups_links_them(groups, pairs):
    linked = np.eye(6, dtype=bool)
    place = {name: i for i, name in enumerate("uvwxyz")}
    for one, other in pairs:
        linked[place[one], place[other]] = linked[place[other], place[one]] = True
    for i in range(6):
        for j in range(6):
            linked[i, j] |= groups[i] == groups[j] != ""
    for _ in range(6):
        linked = (linked.astype(int) @ linked.astype(int)) > 0
    found = tied(rows(groups), pairs).groups
    for i in range(6):
        for j in range(6):
            assert (i == j or (found[i] == found[j] != "")) == linked[i, j]
