"""Runs as folders: what was asked for, the head, its answers and figures, the machine; and several side by side."""
