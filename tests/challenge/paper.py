"""The paper's Tables 2 and 3 (REFERENCE.md §1), and the whole numbers that they are made of."""

from __future__ import annotations

PAPER = """class,ViT,MANet,ResNet,Ensemble
Angrily Surprised,60.53,52.63,55.26,60.53
Disgustedly Surprised,51.43,37.14,60.00,62.86
Fearfully Surprised,80.17,81.03,75.86,87.48
Happily Surprised,92.59,89.63,85.93,91.11
Sadly Angry,84.85,75.75,84.85,81.82
Sadly Fearful,72.72,63.64,63.64,77.27
Sadly Surprised,38.89,38.89,55.56,61.11
accuracy,78.09,74.06,75.06,80.86
macro F1,70.25,63.57,68.19,74.60
"""

SUPPORTS = (38, 35, 116, 135, 33, 22, 18)

CORRECT = {
    "ViT": (23, 18, 93, 125, 28, 16, 7),
    "MANet": (20, 13, 94, 121, 25, 14, 7),
    "ResNet": (21, 21, 88, 116, 28, 14, 10),
    "Ensemble": (23, 22, 98, 123, 27, 17, 11),
}
