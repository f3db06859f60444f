"""Speed, as ratios against a stated peer or limit measured in the same run: `make bench`."""
