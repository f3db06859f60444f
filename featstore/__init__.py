"""The feature store: images become rows, and rows are kept under the name of exactly what made them.

A `Manifest` lists samples. `extract` embeds each of them once, with anything that is an `Embedder`, into immutable
shards of a `Store`. A `View` joins several features on `sample_id`. Every read is verified; nothing falls back quietly.
"""

from cer_fusion.featstore.errors import FeatstoreError
from cer_fusion.featstore.exchange.exporting import ExportReport, export
from cer_fusion.featstore.exchange.importing import ImportReport, import_rows
from cer_fusion.featstore.extraction.reading import Embedder
from cer_fusion.featstore.extraction.run import ExtractReport, extract
from cer_fusion.featstore.manifests.class_sets import ClassSet, class_set
from cer_fusion.featstore.manifests.manifest import Manifest, Sample
from cer_fusion.featstore.rows.feature import Feature, FeatureSpec
from cer_fusion.featstore.rows.view import View
from cer_fusion.featstore.store import Store
from cer_fusion.featstore.upkeep.compaction import CompactReport, compact
from cer_fusion.featstore.upkeep.garbage import Garbage, find_garbage, remove_garbage
from cer_fusion.featstore.upkeep.verify import VerifyReport, verify

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
