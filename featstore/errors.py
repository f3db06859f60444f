"""What can go wrong in the store.

FeatstoreError
├── ManifestError (ValueError)          a manifest that cannot be used: file, line and fix
├── ClassSetError (ValueError)          a label or a class set nobody knows
├── FormatError (ValueError)            not one of our files, damaged, or of a newer version
│   ├── DamagedShardError               a shard whose bytes are not what was written
│   └── NewerFormatError                a file that a newer release wrote
├── RowsError (ValueError)              embeddings of a wrong shape or dtype, or with NaN/Inf
├── FingerprintError (ValueError)       rows of two different features would be mixed
├── UnknownDatasetError (KeyError)      no such dataset in the store
├── UnknownFeatureError (KeyError)      no such feature in the dataset
├── UnknownBlockError (KeyError)        no such block in a view
├── AmbiguousFeatureError (LookupError) one name, several fingerprints
├── IncompleteError (LookupError)       a view over features that lack rows
├── TooManyErrors (RuntimeError)        more unreadable pictures than `max_errors` allows
├── OutputExistsError (FileExistsError) the place of a result is taken, and nobody asked to replace it
├── BucketError (OSError)               a bucket that cannot be reached, or refuses
└── CommitError (OSError)               the file system refused a write
"""

from __future__ import annotations

from ..kit import errors as kit
from ..kit.errors import listing as listing
from ..kit.errors import nearest as nearest


class FeatstoreError(kit.CerError):
    """Base of every error that this package raises on purpose."""


class ManifestError(FeatstoreError, ValueError):
    """A manifest that cannot be used; says where and how to mend it."""


class ClassSetError(FeatstoreError, ValueError):
    """A label or a class set that is not known."""


class FormatError(FeatstoreError, ValueError):
    """A file that is not ours, is damaged, or has a newer format version."""


class DamagedShardError(FormatError):
    """A shard whose bytes are not the bytes that were committed."""


class NewerFormatError(FormatError):
    """A file of a format version that only a newer release knows; never overwritten."""


class RowsError(FeatstoreError, ValueError):
    """Embeddings that must not enter the store: wrong shape, wrong dtype, NaN or Inf."""


class FingerprintError(FeatstoreError, ValueError):
    """Rows of two different features would be mixed."""


class UnknownDatasetError(FeatstoreError, KeyError):
    """The store has no dataset of that name."""


class UnknownFeatureError(FeatstoreError, KeyError):
    """The dataset has no feature of that name."""


class UnknownBlockError(FeatstoreError, KeyError):
    """The view has no block of that name."""


class AmbiguousFeatureError(FeatstoreError, LookupError):
    """One feature name stands for several fingerprints."""


class IncompleteError(FeatstoreError, LookupError):
    """A view was asked over features that do not have all rows."""


class TooManyErrors(FeatstoreError, RuntimeError):
    """More pictures failed than the run was told to accept."""


class OutputExistsError(FeatstoreError, kit.OutputExistsError):
    """The place of a result is taken, and nobody asked to replace what is there."""


class BucketError(FeatstoreError, OSError):
    """A bucket that cannot be reached, or that refuses; what is there stays as it is."""


class CommitError(FeatstoreError, kit.WriteError):
    """The file system refused a write; the store is as it was before."""
