"""Rows of other tools taken into a store, and features written out for them."""
