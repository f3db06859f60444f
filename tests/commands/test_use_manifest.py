from __future__ import annotations

import json


def test_other_labels_and_splits_count_at_once_and_rows_stay(run, filled, faces):
    before = json.loads(run("cer-feat ls --json").stdout)["features"]
    text = faces.read_text().splitlines()
    header = text[0].split(",")
    rows = [line.split(",") for line in text[1:]]
    for row in rows[:3]:
        row[header.index("split")] = "valid"
    rows[5][header.index("label")] = rows[0][header.index("label")] if rows[0][2] != rows[5][2] else rows[20][2]
    faces.write_text("\n".join([text[0], *map(",".join, rows[:-1])]) + "\n")
    shown = run("cer-feat use-manifest faces.csv --dry-run").stdout
    assert "would become the manifest of faces, 41 samples: 1 removed, 1 other labels, 3 other splits" in shown
    assert json.loads(run("cer-feat ls --json").stdout)["features"] == before
    found = json.loads(run("cer-feat use-manifest faces.csv --json").stdout)
    assert (found["added"], found["removed"], found["other_labels"], found["other_splits"]) == (0, 1, 1, 3)
    after = json.loads(run("cer-feat ls --json").stdout)["features"]
    assert [entry["rows"] for entry in after] == [41, 41]
    run("cer-fuse train --head linear --test-split valid --train-split train")
    assert "nothing changed" in run("cer-feat use-manifest faces.csv").stdout


def test_new_samples_are_announced_and_an_unknown_dataset_is_refused(run, filled, faces):
    text = faces.read_text()
    line = text.splitlines()[1]
    faces.write_text(text + line.replace(line.split(",")[0], "one_more", 1) + "\n")
    result = run("cer-feat use-manifest faces.csv")
    assert "1 added" in result.stdout
    assert "cer-feat extract" in result.output
    assert "no dataset 'none'" in run("cer-feat use-manifest faces.csv --dataset none", code=1).output
