"""Speed, as ratios against a stated peer or limit measured in the same run: `make bench`.

What is measured runs as the commands run it: threads wait as they choose, unless the environment says otherwise.
"""

from cer_fusion.kit.machine import choose

choose()
