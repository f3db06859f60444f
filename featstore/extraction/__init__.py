"""Making rows: what is missing, which part is ours, one pass over the pictures, shard by shard."""
