"""Rows to learn from: named blocks with labels, their join in memory or on the disk, and how they are divided."""
