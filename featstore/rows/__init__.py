"""A feature's identity, its shards, and the view that joins features on their samples."""
