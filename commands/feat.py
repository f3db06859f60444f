"""`cer-feat`: from pictures to a store of features."""

from __future__ import annotations

from commands import (
    feat_demo,
    feat_diff,
    feat_doctor,
    feat_export,
    feat_extract,
    feat_finetune,
    feat_frames,
    feat_housekeeping,
    feat_import,
    feat_inspect,
    feat_manifest,
    feat_relabel,
    feat_store,
)
from commands.console import app as make_app

app = make_app("Embed faces once, keep the features, know exactly what made them.")
app.add_typer(feat_manifest.app, name="manifest")
app.command("frames")(feat_frames.frames)
app.command("backbones")(feat_extract.backbones)
app.command("inspect")(feat_inspect.inspect)
app.command("finetune")(feat_finetune.finetune)
app.command("extract")(feat_extract.extract)
app.command("import")(feat_import.import_)
app.command("export")(feat_export.export)
app.command("relabel")(feat_relabel.relabel)
app.command("ls")(feat_store.ls)
app.command("show")(feat_store.show)
app.command("verify")(feat_store.verify)
app.command("diff")(feat_diff.diff)
app.command("gc")(feat_housekeeping.gc)
app.command("compact")(feat_housekeeping.compact)
app.command("doctor")(feat_doctor.doctor)
app.command("demo")(feat_demo.demo)
