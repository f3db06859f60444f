"""How heads are judged: metrics, statistics, cross-validation, comparisons, and what can be read off their answers."""
