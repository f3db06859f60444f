"""`cer-feat`: from pictures to a store of features."""

from __future__ import annotations

from ..console import app as make_app

COMMANDS = {
    "manifest": (
        "cer_fusion.commands.feat.manifest:app",
        "List a dataset's samples (sample_id, path, label, split, group), or work with such lists.",
    ),
    "frames": (
        "cer_fusion.commands.feat.frames:frames",
        "Decode videos to `01/00001.jpg` and so on, as the ABAW challenge numbers frames; find, align, follow faces.",
    ),
    "backbones": (
        "cer_fusion.commands.feat.backbones:backbones",
        "List the backbones: blocks, input, parameters, default weights.",
    ),
    "inspect": (
        "cer_fusion.commands.feat.backbones:inspect",
        "Open a checkpoint without running code from it; say what it is, which backbone takes it, and how.",
    ),
    "prompts": (
        "cer_fusion.commands.feat.backbones:prompts",
        "Make vectors of texts with an image-text encoder: they stand for classes that no head learns.",
    ),
    "finetune": (
        "cer_fusion.commands.feat.finetune:finetune",
        "Train a backbone end to end, keep the best epoch. Run it again after a kill. No test picture is learnt from.",
    ),
    "extract": (
        "cer_fusion.commands.feat.extract:extract",
        "Embed every sample that has no row yet. Run it again after a kill, a new picture, a changed label.",
    ),
    "parts": (
        "cer_fusion.commands.feat.store:parts",
        "Print the unfinished parts of an extraction as sbatch --array takes them: 3,7,12-15.",
    ),
    "import": (
        "cer_fusion.commands.feat.import_:import_",
        "Import embeddings of another tool; they are marked foreign and identified by their content.",
    ),
    "export": (
        "cer_fusion.commands.feat.export:export",
        "Write features for other tools: NumPy (npz, npy), Parquet, CSV, TensorBoard's embedding projector.",
    ),
    "push": (
        "cer_fusion.commands.feat.cloud:push",
        "Put a store into a bucket: shards first, documents last; nothing there is replaced or removed.",
    ),
    "pull": (
        "cer_fusion.commands.feat.cloud:pull",
        "Take a store, or some features of it, from a bucket; every shard is checked against the digest in its name.",
    ),
    "cache": (
        "cer_fusion.commands.feat.cloud:cache",
        "List the shards of buckets that are kept on this machine for `Store.open`, or remove them.",
    ),
    "use-manifest": (
        "cer_fusion.commands.feat.store:use_manifest",
        "Make a manifest the dataset's: its labels, splits and groups count from now on, and no row changes.",
    ),
    "ls": (
        "cer_fusion.commands.feat.store:ls",
        "List the features of a store: rows, completeness, size, age.",
    ),
    "quarantine": (
        "cer_fusion.commands.feat.store:quarantine",
        "List the samples that have no row and why: pictures that could not be read, faces that were not found.",
    ),
    "show": (
        "cer_fusion.commands.feat.store:show",
        "Show what a feature is: everything that fixes its numbers, and where its weights came from.",
    ),
    "rename": (
        "cer_fusion.commands.feat.upkeep:rename",
        "Give a feature, or a dataset, another name; no row and no fingerprint changes.",
    ),
    "rm": (
        "cer_fusion.commands.feat.upkeep:rm",
        "Take features, or whole datasets, out of the store, after saying what goes and which runs learned from it.",
    ),
    "verify": (
        "cer_fusion.commands.feat.upkeep:verify",
        "Read every byte of the store and compare it with its digests; exit status 1 if something is wrong.",
    ),
    "diff": (
        "cer_fusion.commands.feat.store:diff",
        "Say which fields tell two features apart, old (A) and new (B).",
    ),
    "gc": (
        "cer_fusion.commands.feat.upkeep:gc",
        "List what the store no longer needs, or remove it with --delete; no view changes.",
    ),
    "compact": (
        "cer_fusion.commands.feat.upkeep:compact",
        "Rewrite a feature's small or partly superseded shards as full ones, in manifest order; no view changes.",
    ),
    "doctor": (
        "cer_fusion.commands.doctor:doctor",
        "Check libraries, device, the store's file system, the hub, plugins; exit status 1 if something needed fails.",
    ),
    "demo": (
        "cer_fusion.commands.feat.demo:demo",
        "Draw schematic faces, let one network look at face, eyes and mouth, and show what fusing the three is worth.",
    ),
}
"""Where each command is, and the first line of its docstring."""

app = make_app("Embed faces once, keep the features, know exactly what made them.", COMMANDS)
