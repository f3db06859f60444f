"""Samples and their classes: manifests, their files, what is wrong with them, and what can be made of them."""
