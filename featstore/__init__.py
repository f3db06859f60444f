"""The feature store: images become rows, and rows are kept under the name of exactly what made them.

A `Manifest` lists samples. `extract` embeds each of them once, with anything that is an `Embedder`, into immutable
shards of a `Store`. A `View` joins several features on `sample_id`. Every read is verified; nothing falls back quietly.
"""

from featstore.class_sets import ClassSet, class_set
from featstore.compaction import CompactReport, compact
from featstore.embedder import Embedder
from featstore.errors import FeatstoreError
from featstore.exchange.exporting import ExportReport, export
from featstore.exchange.foreign import ImportReport, import_rows
from featstore.extract import extract
from featstore.extraction import ExtractReport
from featstore.feature import Feature
from featstore.garbage import Garbage, find_garbage, remove_garbage
from featstore.manifest import Manifest, Sample
from featstore.spec import FeatureSpec
from featstore.store import Store
from featstore.verify import VerifyReport, verify
from featstore.view import View

__all__ = [
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
    "class_set",
    "compact",
    "export",
    "extract",
    "find_garbage",
    "import_rows",
    "remove_garbage",
    "verify",
]
