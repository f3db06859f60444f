"""The command groups of `cer-feat` and `cer-fuse`: one file a group, plus how commands talk (`console`)."""
