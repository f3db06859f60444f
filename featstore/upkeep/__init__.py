"""Looking at every byte, naming what nothing needs any more, making small shards full."""
