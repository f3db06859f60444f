"""Bytes of pictures, from folders, zip and tar files."""
