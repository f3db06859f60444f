"""Any classifier of scikit-learn as a head, kept by skops: ``make_head("sklearn:sklearn.naive_bayes.GaussianNB")``."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from inspect import Parameter, Signature, signature
from itertools import count
from typing import Any, ClassVar, Final

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import has_fit_parameter

from ...kit import parse_json
from ...kit.errors import nearest
from ..data.blocks import FloatArray
from ..errors import HeadConfigError, HeadDataError, SavedHeadError, UnknownHeadError
from .base import Codes, Head, HeadState, Proba, RowInfo
from .scaling import BlockScaler
from .settings import Standardize, by_code

PREFIX: Final = "sklearn:"
FILE: Final = "estimator.skops"

MODULES: Final = (
    "calibration", "discriminant_analysis", "dummy", "ensemble", "gaussian_process", "linear_model", "multiclass",
    "naive_bayes", "neighbors", "neural_network", "semi_supervised", "svm", "tree",
)  # fmt: skip
"""The modules of scikit-learn that have classifiers: no other module is imported for a name, given or kept."""

TRUSTED: Final = (
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.calibration._TemperatureScaling",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    *(f"sklearn.gaussian_process.kernels.{kernel}" for kernel in (
        "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Matern", "Product",
        "RBF", "RationalQuadratic", "Sum", "WhiteKernel",
    )),
    "sklearn.multiclass._ConstantPredictor",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
)  # fmt: skip
"""What a kept estimator may be made of, beside the estimators and losses of scikit-learn that skops itself trusts,
their numbers and arrays. Nodes of trees are checked here (`_check_trees`): scikit-learn follows any index in them."""

_OWN = ("blocks", "standardize", "threads", "random_state")


class EstimatorHead(Head):
    """A classifier of scikit-learn on the joined blocks, asked for by the path that scikit-learn documents.

    It takes the settings of that classifier, but for those that every head has: `random_state` goes to the classifier
    and those inside it, `threads` stands for ``n_jobs``. A setting that takes another estimator takes its path, or
    ``{"sklearn:sklearn.svm.LinearSVC": {"C": 0.1}}`` with settings of its own. Class weights are by label.

    Parameters
    ----------
    standardize : {"none", "standard", "l2", "power"}
        What happens to each block first (`cer_fusion.fusion.heads.scaling`); nothing unless asked for.

    Attributes
    ----------
    estimator_ : scikit-learn classifier
        Fitted on positions in `classes_`.
    """

    _classifier: ClassVar[type]

    standardize: Standardize

    @property
    def by_chance(self) -> bool:
        """Where the classifier has a seed, or holds others that may have one."""
        return bool({"random_state", "estimator", "estimators"} & set(signature(self._classifier).parameters))

    def _fit(self, X: FloatArray, codes: Codes, info: RowInfo) -> None:
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).fit(X)
        settings = {name: getattr(self, name) for name in signature(type(self)).parameters if name not in _OWN}
        if isinstance(settings.get("class_weight"), Mapping):
            settings["class_weight"] = by_code(settings["class_weight"], self.classes_, codes)
        model = _made(self._classifier, settings)
        known = model.get_params()
        seeds = {name: self.seed_ for name in known if name.rpartition("__")[2] == "random_state"}
        jobs = {name: self.threads for name in known if name.rpartition("__")[2] == "n_jobs"}
        model.set_params(**seeds, **(jobs if (self.threads or 1) > 1 else {}))
        if not hasattr(model, "predict_proba") and not {"estimator", "estimators"} & set(settings):
            raise _answers_no_probabilities(self.name, model)
        self.estimator_ = model.fit(self.scaler_.transform(X), codes, **_beside(model, info))
        if not hasattr(self.estimator_, "predict_proba"):  # those of estimators know when these are fitted
            raise _answers_no_probabilities(self.name, model)

    @property
    def n_iter_(self) -> Any:
        """Iterations of the classifier, where it counts them."""
        return self.estimator_.n_iter_

    def _proba(self, X: FloatArray) -> Proba:
        proba = np.asarray(self.estimator_.predict_proba(self.scaler_.transform(X)), np.float64)
        if proba.shape != (len(X), len(self.classes_)) or not np.allclose(proba.sum(axis=1), 1, atol=1e-4):
            raise HeadDataError(
                f"{self.name} must answer {len(self.classes_)} probabilities a row that sum to one, however: its "
                f"answer has shape {proba.shape} and sums from {proba.sum(axis=-1).min():.3g}\n"
                "  choose another classifier"
            )
        return proba

    def _state(self) -> HeadState:
        return HeadState(arrays=self.scaler_.state(), files={FILE: _dumped(self.name, self.estimator_)})

    def _restore(self, state: HeadState) -> None:
        self.scaler_ = BlockScaler(self.standardize, self.blocks_).restore(state.arrays)
        found = _loaded(state.files[FILE])
        k = len(self.classes_)
        classes: Any = getattr(found, "classes_", ())
        if type(found) is not self._classifier or not np.array_equal(classes, np.arange(k)):
            raise ValueError(f"{FILE} holds no {self._classifier.__name__} of {k} classes")
        if getattr(found, "n_features_in_", None) != self.n_features_in_:
            raise ValueError(f"{FILE} is not for {self.n_features_in_} columns")
        self.estimator_ = found

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name, for workers of scikit-learn: the class is made when it is asked for."""
        return _blank, (self.name,), self.__getstate__()


@cache
def estimator_head(name: str) -> type[EstimatorHead]:
    """Return the class of head for a name such as ``sklearn:sklearn.naive_bayes.GaussianNB``.

    Raises
    ------
    UnknownHeadError
        If it names no classifier in the public modules of scikit-learn; nothing else is imported to find out.
    HeadConfigError
        If the classifier answers no probabilities whatever its settings are.
    """
    estimator = _estimator(name)
    if not hasattr(estimator, "predict_proba"):
        raise _answers_no_probabilities(name, estimator)
    own = [
        Parameter(one.name, Parameter.KEYWORD_ONLY, default=None if one.default is Parameter.empty else one.default)
        for one in signature(estimator).parameters.values()
        if one.name not in (*_OWN, "n_jobs")
    ]
    shared = {"standardize": "none", "threads": None, "random_state": 0}
    own += [Parameter(one, Parameter.KEYWORD_ONLY, default=default) for one, default in shared.items()]
    blocks = Parameter("blocks", Parameter.POSITIONAL_OR_KEYWORD, default=None)
    takes = Signature([blocks, *own])

    def __init__(self: EstimatorHead, *given: Any, **settings: Any) -> None:
        bound = takes.bind(*given, **settings)
        bound.apply_defaults()
        for setting, value in bound.arguments.items():
            setattr(self, setting, value)

    __init__.__signature__ = Signature([Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), blocks, *own])  # type: ignore[attr-defined]
    weighs = has_fit_parameter(estimator, "sample_weight")
    fields = {"name": name, "_classifier": estimator, "weighs_rows": weighs, "__init__": __init__}
    fields["__doc__"] = EstimatorHead.__doc__
    return type(f"{estimator.__name__}Head", (EstimatorHead,), {**fields, "__module__": __name__})


def _estimator(name: str) -> type:
    """Return the class that a name with the prefix stands for."""
    path = re.fullmatch(rf"{PREFIX}sklearn\.([a-z_]+)\.([A-Z][A-Za-z0-9]*)", name)
    if path is None or path[1] not in MODULES:
        raise UnknownHeadError(
            f"{name!r} must be {PREFIX}sklearn.MODULE.CLASS with a module of: {', '.join(MODULES)}\n"
            "  a classifier of another library is fitted and compared as it is: compare({'mine': it}, ...)"
        )
    module = import_module(f"sklearn.{path[1]}")
    known = [one for one, its in vars(module).items() if isinstance(its, type) and issubclass(its, ClassifierMixin)]
    if path[2] not in known:
        public = [one for one in known if not one.startswith("_") and one != "ClassifierMixin"]
        raise UnknownHeadError(f"sklearn.{path[1]} has no classifier {path[2]!r}; {nearest(path[2], public)}")
    found: type = getattr(module, path[2])
    return found


def _made(estimator: type, settings: Mapping[str, Any]) -> Any:
    """Return an unfitted estimator, those that its settings name inside it."""
    known = signature(estimator).parameters
    for setting in settings:
        if setting not in known:
            raise HeadConfigError(f"{estimator.__name__} has no setting {setting!r}; {nearest(setting, known)}")
    made = {setting: _built(value) for setting, value in settings.items()}
    if isinstance(made.get("estimators"), tuple):  # as lists come back from a kept head
        made["estimators"] = list(made["estimators"])
    return estimator(**made)


def _built(value: Any) -> Any:
    """Return a setting with the estimators that it names."""
    if isinstance(value, str) and value.startswith(PREFIX):
        return _made(_estimator(value), {})
    if isinstance(value, Mapping):
        (name, settings), *more = [*value.items(), ("", None)]
        if isinstance(name, str) and name.startswith(PREFIX) and len(more) == 1:
            return _made(_estimator(name), settings)
        return {key: _built(one) for key, one in value.items()}
    return type(value)(_built(one) for one in value) if isinstance(value, (list, tuple)) else value


def _answers_no_probabilities(name: str, estimator: Any) -> HeadConfigError:
    wrapper = f"{PREFIX}sklearn.calibration.CalibratedClassifierCV"
    cls = estimator if isinstance(estimator, type) else type(estimator)
    return HeadConfigError(
        f"{cls.__name__} answers no probabilities (it has no predict_proba as it is set), and a head is asked for "
        f"them\n  calibrate it: make_head({wrapper!r}, estimator={name!r}), or --head {wrapper} --set estimator={name}"
    )


def _blank(name: str) -> EstimatorHead:
    cls = estimator_head(name)
    return cls.__new__(cls)


def _dumped(name: str, estimator: Any) -> bytes:
    """Return a fitted estimator in the form of skops: equal ones as equal bytes, without addresses and times."""
    import skops.io

    try:
        data = skops.io.dumps(estimator)
        refused = sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED))
    except MemoryError:
        raise
    except Exception as error:  # a boundary: skops raises what it happens to meet in an object that it does not know
        raise SavedHeadError(f"skops cannot keep the head {name!r}: {type(error).__name__}: {error}") from error
    if refused:
        raise SavedHeadError(
            f"the head {name!r} would not be opened again, since it holds what is not trusted: {', '.join(refused)}\n"
            + ("  set algorithm='brute'" if "neighbors" in refused[-1] else "  choose other settings of the classifier")
        )
    numbers, named = count(), dict[str, str]()

    def renamed(match: re.Match[str]) -> str:
        """Number objects in the order in which the schema names them; their addresses differ from run to run."""
        return f"{match[1]}{named.setdefault(match[2], str(next(numbers)))}"

    with zipfile.ZipFile(io.BytesIO(data)) as found:
        schema = re.sub(r'("(?:__id__|file)": "?)(\d+)', renamed, found.read("schema.json").decode())
        files = {re.sub(r"^()(\d+)", renamed, one): found.read(one) for one in found.namelist() if one != "schema.json"}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as whole:
        for one in sorted(files):
            whole.writestr(zipfile.ZipInfo(one), files[one])  # of 1980, as the format begins
        whole.writestr(zipfile.ZipInfo("schema.json"), schema)
    return out.getvalue()


def _loaded(data: bytes) -> Any:
    """Return the estimator in a file whose digest was right, or refuse it: by name where it holds what is not trusted.

    Raises
    ------
    ValueError
        Before anything is made, or imported, that is not scikit-learn's, NumPy's or SciPy's.
    """
    import skops.io

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            packed = [one for one in found.infolist() if one.compress_type != zipfile.ZIP_STORED]
            if packed or sum(one.file_size for one in found.infolist()) > len(data):
                raise ValueError(f"{FILE} is larger inside than outside")
            schema = parse_json(found.read("schema.json"), where=FILE, error=ValueError)
            foreign = sorted(set(_foreign(schema)))
            for one in found.namelist():
                if one.endswith(".npy"):
                    _check_trees(np.lib.format.read_array(io.BytesIO(found.read(one)), allow_pickle=False))
        if not foreign:
            foreign = sorted(set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED))
        if foreign:
            raise ValueError(f"{FILE} holds what is not trusted: {', '.join(foreign)[:200]}")
        return skops.io.loads(data, trusted=list(TRUSTED))
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # a boundary: of a forged file skops raises whatever it stumbles over
        raise ValueError(f"{FILE} is no estimator that skops can read: {type(error).__name__}: {error}") from error


def _foreign(schema: Any) -> Iterator[str]:
    """Yield the types in a schema that are not of the libraries that a classifier is made of."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
            home = one.get("__module__", "builtins")
            if not isinstance(home, str) or home.partition(".")[0] not in ("builtins", "numpy", "scipy", "sklearn"):
                yield f"{home}.{one.get('__class__')}"
        elif isinstance(one, list):
            waiting += one


def _check_trees(nodes: Any) -> None:
    """Refuse nodes of scikit-learn's trees that could loop, or whose children are no nodes."""
    names = nodes.dtype.names or ()
    for left, right in (("left_child", "right_child"), ("left", "right")):
        if left not in names or right not in names:
            continue
        here = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool) if "is_leaf" in names else nodes[left] == -1
        inside = [(nodes[side] > here) & (nodes[side] < len(nodes)) for side in (left, right)]
        if nodes.ndim != 1 or not (leaf | (inside[0] & inside[1])).all():
            raise ValueError(f"{FILE} holds nodes that do not describe trees")


def _beside(model: Any, info: RowInfo) -> dict[str, Any]:
    """Return what of the rows' groups and weights a classifier's fit takes."""
    known = {"groups": info.groups, "sample_weight": info.weights}
    return {name: value for name, value in known.items() if value is not None and has_fit_parameter(model, name)}
