"""The Hugging Face Hub, by huggingface_hub's own API: what leaves is laid out first, and goes in one commit.

A repository is private unless somebody asks for a public one, and what it is, is looked at again before the first byte
is sent. What is fetched comes from one commit; whoever reads it checks digests. huggingface_hub, which comes with timm,
is imported when it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from .errors import CerError, listing, needed

KINDS = {"": "model", "models": "model", "datasets": "dataset"}
_PLACE = re.compile(
    r"(?:hf:/{1,2})?(?:(?P<kind>models|datasets|spaces)/)?(?P<name>[^/@]+/[^/@]+)(?:@(?P<revision>.+))?"
)
_PART = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9_])?", re.ASCII)
_LONGEST = 96
MADE_BY_THE_HUB = {".gitattributes", "README.md", "LICENSE", ".gitignore"}
"""Files that a repository may begin with."""


class HubError(CerError):
    """The Hub refused, could not be reached, or does not have what was asked for; says what to do."""


@dataclass(frozen=True, kw_only=True)
class HubPlace:
    """A repository of the Hub, at a revision."""

    kind: Literal["model", "dataset"]
    name: str
    """``user/name``."""
    revision: str | None = None
    """A branch, tag or commit; None for ``main``."""

    @classmethod
    def parse(cls, text: str, kind: Literal["model", "dataset"], *, revision: str | None = None) -> Self:
        """Read ``user/name``, ``hf://user/name``, ``hf://datasets/user/name``, each with ``@revision`` or without.

        Raises
        ------
        HubError
            If it is none of these, of another kind, or has two revisions.
        """
        found = _PLACE.fullmatch(text)
        form = "user/name" if kind == "model" else "hf://datasets/user/name"
        if found is None or not all(_PART.fullmatch(part) for part in found["name"].split("/")):
            raise HubError(f"{text!r} names no repository of the Hub: expected {form}")
        if KINDS.get(found["kind"] or "") != kind or found["name"].partition("/")[0] in KINDS:
            raise HubError(f"{text!r} is a repository of another kind: expected {form}")
        if len(found["name"]) > _LONGEST:
            raise HubError(f"{found['name']!r} is longer than the {_LONGEST} letters that the Hub takes")
        if found["revision"] and revision and found["revision"] != revision:
            raise HubError(f"{text!r} names a revision, and {revision!r} was asked for as well: leave one of them out")
        return cls(kind=kind, name=found["name"], revision=found["revision"] or revision)

    def __str__(self) -> str:
        """Return it as it is written: ``hf://datasets/user/name@revision``."""
        kind = "datasets/" if self.kind == "dataset" else ""
        return f"hf://{kind}{self.name}{f'@{self.revision}' if self.revision else ''}"


def is_hub(text: str | os.PathLike[str]) -> bool:
    """Whether a text names something on the Hub; as a path it has lost one of its slashes."""
    return os.fspath(text).startswith("hf:/")


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What is to leave."""

    files: Mapping[str, bytes | Path]
    """Name in the repository to its bytes, or to the file that has them."""
    owned: Callable[[str], bool]
    """Whether a name is one that a parcel of this kind may have: those that are there and not in it are removed."""
    mark: str
    """The file that every parcel of this kind has: a repository without it that holds files is somebody else's."""
    message: str
    """Of the commit."""

    @property
    def sizes(self) -> dict[str, int]:
        """Name to bytes."""
        return {
            name: len(data) if isinstance(data, bytes) else data.stat().st_size for name, data in self.files.items()
        }


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a repository is now."""

    private: bool | None
    """None where there is none yet."""
    commit: str | None
    files: frozenset[str]


def look(place: HubPlace, parcel: Parcel, *, public: bool) -> Standing:
    """Find out whether a repository is there, and refuse one that the parcel may not go to; nothing is sent.

    Raises
    ------
    HubError
        Without a token, if the repository's visibility is not what is asked for, if it holds something else, or if the
        Hub refuses or cannot be reached.
    """
    if place.revision is not None:
        raise HubError(f"{place}: what is pushed goes to the main branch: leave the revision out")
    hub = _client(place)
    with told(place, "looked at"):
        try:
            found = hub.repo_info(place.name, repo_type=place.kind)
        except _missing() as error:
            if _status(error) == 401:
                raise
            return Standing(private=None, commit=None, files=frozenset())
    there = frozenset(one.rfilename for one in found.siblings or ())
    _refuse_visibility(place, bool(found.private), public=public)
    if parcel.mark not in there and there - MADE_BY_THE_HUB:
        raise HubError(
            f"{place} holds files that no push of this kind left ({listing(sorted(there - MADE_BY_THE_HUB))}), and is "
            "left as it is\n  name a new repository"
        )
    return Standing(private=bool(found.private), commit=found.sha, files=there)


def send(place: HubPlace, parcel: Parcel, standing: Standing, *, public: bool) -> str:
    """Make the repository where there is none, look at its visibility again, and send all in one commit.

    Returns
    -------
    str
        The commit.

    Raises
    ------
    HubError
        As `look`, or if somebody committed since. A commit is whole or not there.
    """
    hub = _client(place)
    add, delete = library().CommitOperationAdd, library().CommitOperationDelete
    made = ""
    commit = standing.commit
    if standing.private is None:
        with told(place, "made"):
            hub.create_repo(place.name, repo_type=place.kind, private=not public)
        made = "\n  the repository is there now, and empty"
    with told(place, "looked at", more=made):
        found = hub.repo_info(place.name, repo_type=place.kind)
        _refuse_visibility(place, bool(found.private), public=public)
        commit = commit or found.sha
    gone = sorted(name for name in standing.files - set(parcel.files) if parcel.owned(name))
    with told(place, "sent to", sending=True, more=made), _quiet():
        done = hub.create_commit(
            place.name, repo_type=place.kind, commit_message=parcel.message, parent_commit=commit,
            operations=[
                *(add(path_in_repo=name, path_or_fileobj=data) for name, data in parcel.files.items()),
                *(delete(path_in_repo=name) for name in gone),
            ],
        )  # fmt: skip
    return str(done.oid)


def pinned(place: HubPlace) -> HubPlace:
    """Find the commit that a place is at now, so that all files are of one; as the place is where nobody may be asked.

    Raises
    ------
    HubError
        If it is not there, or the Hub cannot be reached. What was fetched before is used without it only where that is
        asked for: with a commit as the revision, or with HF_HUB_OFFLINE.
    """
    library()
    offline: bool = importlib.import_module("huggingface_hub.constants").HF_HUB_OFFLINE  # no attribute before that
    if offline or re.fullmatch("[0-9a-f]{40}", place.revision or ""):
        return place
    with told(place, "found"):
        found = (
            library().HfApi(endpoint=_endpoint()).repo_info(place.name, repo_type=place.kind, revision=place.revision)
        )
    return replace(place, revision=found.sha)


def fetch(place: HubPlace, name: str) -> tuple[Path, str]:
    """Fetch a file into the cache of huggingface_hub, or find it there.

    Returns
    -------
    path : Path
        The file itself, no link.
    commit : str
        That it is of.

    Raises
    ------
    HubError
        If it is not there, or cannot be reached.
    """
    with told(place, "fetched from", name=name), _quiet():
        found = Path(
            library().hf_hub_download(
                place.name, name, repo_type=place.kind, revision=place.revision, endpoint=_endpoint(),
                cache_dir=os.environ.get("HF_HUB_CACHE"),
            )
        )  # fmt: skip
    return found.resolve(), found.parents[name.count("/")].name  # …/snapshots/COMMIT/NAME


def library() -> Any:
    """Return huggingface_hub, which timm brings.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    return needed("huggingface_hub", "the Hugging Face Hub")


def check_licence(licence: str | None) -> None:
    """Refuse what is no name of a licence, as the Hub writes them: ``mit``, ``cc-by-nc-4.0``."""
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise HubError(f"a licence is a name such as mit or cc-by-nc-4.0, however: {licence!r}")


@contextlib.contextmanager
def staged() -> Iterator[Path]:
    """Give a folder for files that are made in order to be sent; it is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="cer-hub-") as name:
        yield Path(name)


@contextlib.contextmanager
def told(place: HubPlace, doing: str, *, name: str = "", sending: bool = False, more: str = "") -> Iterator[None]:
    """Say in words what the Hub, or the way there, refused.

    What huggingface_hub raises is an `OSError`, an error of its HTTP library, which differs between its versions, a
    `ValueError` about what it was given, or a `RuntimeError` around any of these where a thread uploads.
    """
    failures: tuple[type[Exception], ...] = (*_transport(), ValueError, RuntimeError)
    try:
        yield
    except CerError:
        raise
    except failures as error:
        chain = [error]
        while isinstance(cause := chain[-1].__cause__, Exception):
            chain.append(cause)
        failed = [one for one in chain if isinstance(one, _transport())] or chain
        known = next((one for one in chain if _status(one) is not None), failed[-1])
        reason, remedy = _in_words(place, known, name)
        status = _status(known)
        if sending:
            remedy += (
                "\n  nothing was committed"
                if status is not None
                else "\n  whether it arrived is not known: the same command again sends what is not there"
            )
        raise HubError(f"{place} could not be {doing}: {reason}\n  {remedy}{more}") from error


def _in_words(place: HubPlace, error: Exception, name: str) -> tuple[str, str]:
    from huggingface_hub import errors as theirs

    status, owner = _status(error), place.name.partition("/")[0]
    server = getattr(error, "server_message", None) or ""
    if isinstance(error, theirs.RevisionNotFoundError):
        return f"there is no revision {place.revision!r}", "look at its branches and commits on the Hub"
    if isinstance(error, theirs.EntryNotFoundError) and status == 404:
        return f"there is no file {name!r} in it", "name a repository that cer-fusion pushed to"
    if isinstance(error, theirs.GatedRepoError):
        return "access must be asked for first", "ask for it on the repository's page"
    if status == 401:
        return (
            "the Hub does not accept the token, or shows the repository to no such user",
            "log in with: hf auth login, or set HF_TOKEN",
        )
    if status == 403:
        return f"the token may not do that{f' ({server})' if server else ''}", f"take one that may write to {owner}"
    if status == 404:
        return "there is no such repository, or the token may not see it", "check its name, and hf auth whoami"
    if status in (409, 412):
        return "somebody changed it meanwhile", "run the same command again"
    if status is not None and status >= 500:
        return f"the Hub answered {status}, which is a fault of its own", "try again later"
    if status is not None:
        return f"the Hub answered {status}{f': {server}' if server else ''}", "see what it says"
    if isinstance(error, theirs.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids to ask the Hub", "unset it, or name a revision or folder that is here"
    if not isinstance(error, _transport()):
        return f"huggingface_hub refuses: {type(error).__name__}: {_first_line(error)}", "see what it says"
    return (
        f"the connection failed: {type(error).__name__}: {_first_line(error)}",
        "look at the network, and at HF_ENDPOINT; then run the same command again",
    )


def _transport() -> tuple[type[Exception], ...]:
    """What is raised where a connection fails: by the system, and by whichever HTTP library huggingface_hub has."""
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(one for one in HfHubHTTPError.__bases__ if issubclass(one, Exception)))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")[:300]


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _missing() -> Any:
    return importlib.import_module("huggingface_hub.errors").RepositoryNotFoundError


def _client(place: HubPlace) -> Any:
    """Return the Hub as its user sees it; a push needs one."""
    if not library().get_token():
        raise HubError(f"{place} needs a token, and there is none\n  log in with: hf auth login, or set HF_TOKEN")
    return library().HfApi(endpoint=_endpoint(), library_name="cer-fusion")


def _endpoint() -> str | None:
    """The address of the Hub, where the environment says another; it may have been set after the import."""
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def _refuse_visibility(place: HubPlace, private: bool, *, public: bool) -> None:
    if private is not public:
        return
    if public:
        raise HubError(
            f"{place} is private, and --public was given; nothing was sent\n"
            "  make it public in its settings on the Hub, or leave --public out"
        )
    raise HubError(
        f"{place} is public, and a push is private unless asked otherwise; nothing was sent\n"
        "  say --public if everybody may have it, or name another repository"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars of tqdm between the lines of ours, but for what its user set."""
    utils: Any = importlib.import_module("huggingface_hub.utils")
    if utils.are_progress_bars_disabled() or os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS") is not None:
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()
