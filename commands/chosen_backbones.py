"""The backbones that one `extract` names: which weights, options and names go to which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer
from cer_fusion.commands.options import key_values

if TYPE_CHECKING:
    from cer_fusion.backbones import Backbone


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One backbone as the command line describes it."""

    backbone: str
    """What `cer_fusion.backbones.create` is asked for."""
    weights: str | None
    options: dict[str, Any]
    feature: str | None
    """What the feature is called; None for the backbone's own name."""

    def create(
        self, *, seed: int, device: str, precision: str, views: str = "none", compiled: bool = False
    ) -> Backbone:
        """Make the backbone."""
        from cer_fusion.backbones import create

        made = create(
            self.backbone, weights=self.weights, seed=seed, device=device, precision=precision, **self.options
        )
        made.take_views(views)
        if compiled:
            from cer_fusion.backbones.torch_backbone import TorchBackbone

            if not isinstance(made, TorchBackbone):
                raise typer.BadParameter(
                    f"{self.backbone} is no torch network: there is nothing to compile", param_hint="--compile"
                )
            made.compile_network()
        return made


def chosen_backbones(
    backbones: Sequence[str], weights: Sequence[str], options: Sequence[str], features: Sequence[str]
) -> list[Chosen]:
    """Deal `--weights`, `--option` and `--as` to the backbones: plainly for one, as NAME=… for several.

    Raises
    ------
    typer.BadParameter
        If a backbone is named twice, or a value is for none of them, or twice for one.
    """
    for name in backbones:
        if backbones.count(name) > 1:
            raise typer.BadParameter(
                f"{name} is named twice; run it once for each set of options", param_hint="--backbone"
            )
    one_of_each = (_dealt(weights, backbones, "--weights"), _dealt(features, backbones, "--as"))
    for found, option in zip(one_of_each, ("--weights", "--as"), strict=True):
        for name, values in found.items():
            if len(values) > 1:
                raise typer.BadParameter(f"given {len(values)} times for {name}: {values}", param_hint=option)
    dealt_options = _dealt(options, backbones, "--option")
    return [
        Chosen(
            backbone=name,
            weights=next(iter(one_of_each[0][name]), None),
            options=key_values(dealt_options[name], "--option"),
            feature=next(iter(one_of_each[1][name]), None),
        )
        for name in backbones
    ]


def _dealt(entries: Sequence[str], backbones: Sequence[str], option: str) -> dict[str, list[str]]:
    """Values of one option by backbone; a value without a backbone's name before it is for the only one."""
    found: dict[str, list[str]] = {name: [] for name in backbones}
    for entry in entries:
        named = [name for name in backbones if entry.startswith(f"{name}=")]
        if named:
            name = max(named, key=len)
            found[name].append(entry[len(name) + 1 :])
        elif len(backbones) == 1:
            found[backbones[0]].append(entry)
        else:
            raise typer.BadParameter(
                f"there are several backbones ({', '.join(backbones)}): say whose it is, as {backbones[0]}=…, "
                f"however: {entry!r}",
                param_hint=option,
            )
    return found
