"""What `cer-feat manifest` can do with manifests that are there: one file a tool."""
