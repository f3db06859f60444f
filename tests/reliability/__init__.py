"""The promises of `docs/reliability.md`, P1 to P20, each with a test that measures it."""
