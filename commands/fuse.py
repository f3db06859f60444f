"""`cer-fuse`: from features to heads, tables and decisions."""

from __future__ import annotations

from commands import (
    fuse_ablate,
    fuse_apply,
    fuse_check_table,
    fuse_choose,
    fuse_compare,
    fuse_diagnose,
    fuse_predict,
    fuse_report,
    fuse_smooth,
    fuse_submit,
    fuse_train,
)
from commands.console import app as make_app

app = make_app("Train and compare fusion heads on cached features, in seconds.")
app.command("train")(fuse_train.train)
app.command("compare")(fuse_compare.compare)
app.command("ablate")(fuse_ablate.ablate)
app.command("diagnose")(fuse_diagnose.diagnose)
app.command("evaluate")(fuse_apply.evaluate)
app.command("predict")(fuse_predict.predict)
app.command("report")(fuse_report.report)
app.command("check-table")(fuse_check_table.check_table)
app.command("smooth")(fuse_smooth.smooth)
app.command("submit")(fuse_submit.submit)
app.command("choose")(fuse_choose.choose)
