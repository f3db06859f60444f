"""Fine-tuning: pictures with labels in, weights that the backbone's own loader takes out.

``finetune(backbone, train, valid, classes=…, recipe=Recipe(), output=…)`` trains the whole network under a classifier
and keeps the best epoch on the validation part. A killed run goes on where it was, to the same weights.
"""
