"""The zoo: one file for each backbone, or each family of them, found by its presence here.

A file sets ``RECIPE``; the file's name is the backbone's name unless the recipe says otherwise. Nothing here imports
torch or timm until something is built.
"""
