"""What `cer-feat doctor` looks at, one concern a module; each check ends in words, whatever goes wrong."""
