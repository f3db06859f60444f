"""The feature store: images become rows, and rows are kept under the name of exactly what made them.

A `Manifest` lists samples; `build` makes one of a dataset's folder. `extract` embeds each of them once, with anything
that is an `Embedder`, into immutable shards of a `Store`. A `View` joins several features on `sample_id`. Every read
is verified; nothing falls back quietly.
"""

from .errors import FeatstoreError
from .exchange.exporting import ExportReport, export
from .exchange.importing import ImportReport, import_rows
from .exchange.pushing import plan_pull, plan_push, pull, push
from .extraction.reading import Embedder
from .extraction.run import ExtractReport, extract
from .manifests.adapters import Adapted, build
from .manifests.class_sets import ClassSet, class_set
from .manifests.csv_table import read_soft_labels
from .manifests.manifest import Manifest, Sample
from .rows.feature import Feature, FeatureSpec
from .rows.view import View
from .store import Store
from .upkeep.compaction import CompactReport, compact
from .upkeep.garbage import Garbage, find_garbage, remove_garbage
from .upkeep.verify import VerifyReport, verify

__all__ = [
    "Adapted",
    "ClassSet",
    "CompactReport",
    "Embedder",
    "ExportReport",
    "ExtractReport",
    "FeatstoreError",
    "Feature",
    "FeatureSpec",
    "Garbage",
    "ImportReport",
    "Manifest",
    "Sample",
    "Store",
    "VerifyReport",
    "View",
    "build",
    "class_set",
    "compact",
    "export",
    "extract",
    "find_garbage",
    "import_rows",
    "plan_pull",
    "plan_push",
    "pull",
    "push",
    "read_soft_labels",
    "remove_garbage",
    "verify",
]
