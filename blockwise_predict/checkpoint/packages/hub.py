"""Checkpoints on the Hugging Face Hub: `hf://OWNER/REPO[@REVISION][/PATH]`.

A revision is resolved to its commit once, when a run is planned. Workers open the cached files by
their path, and a resumed run uses the recorded commit.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from blockwise_predict.checkpoint.packages.choose import choose_files
from blockwise_predict.config.steps import step
from blockwise_predict.config.values import HUB_SCHEME
from blockwise_predict.errors import CheckpointError, shortened, shown

if TYPE_CHECKING:
    from huggingface_hub import CachedRevisionInfo

_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.%-]+))?(?:/(?P<path>[^@]+))?", re.ASCII
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Every repository's default branch has this name.
_DEFAULT_REVISION = "main"


@dataclass(frozen=True)
class HubAddress:
    """What `hf://OWNER/REPO@REVISION/PATH` names; PATH is a file or a folder of the repository."""

    repo: str
    revision: str | None
    path: str | None

    @classmethod
    def parse(cls, text: str) -> HubAddress:
        """The parts of an address. Raises CheckpointError for anything else."""
        found = _ADDRESS.fullmatch(text.rstrip("/"))
        if found is None or ".." in PurePosixPath(found["path"] or "").parts:
            raise CheckpointError(
                f"checkpoint {shown(text)}: write hf://OWNER/REPO, hf://OWNER/REPO@REVISION or "
                "hf://OWNER/REPO@REVISION/PATH. In a REVISION, write / as %2F."
            )
        revision = found["revision"]
        return cls(found["repo"], revision and revision.replace("%2F", "/"), found["path"])

    def pinned(self, commit: str) -> str:
        """The address of the same files in a commit."""
        return f"{HUB_SCHEME}{self.repo}@{commit}" + (f"/{self.path}" if self.path else "")


@dataclass(frozen=True)
class HubFiles:
    """Files of the Hub in its cache on this machine.

    path: the file or folder to open. address: with the commit. sha256: by name in the repository.
    """

    path: Path
    address: str
    sha256: Mapping[str, str]

    @property
    def record(self) -> dict[str, str]:
        """For the run's provenance."""
        digests = {f"sha256 of {name}": digest for name, digest in self.sha256.items()}
        return {"hub": self.address, **digests}


def fetch(address: HubAddress, *, bare: bool) -> HubFiles:
    """Download what a checkpoint needs, unless it is cached.

    With `bare`, the weights that an architecture is given for. A commit that is cached needs no
    connection; other revisions are resolved on the Hub, or in the cache if it cannot be reached.
    Raises CheckpointError, with what to do, if that fails.
    """
    _require()
    pinned = _COMMIT.fullmatch(address.revision or "") is not None
    if pinned and (cached := _cached(address, bare=bare)) is not None:
        return cached
    try:
        return _download(address, bare=bare)
    except _unreachable() as error:
        cached = _cached(address, bare=bare)
        if cached is None:
            raise CheckpointError(
                f"checkpoint {_text(address)}: the Hub cannot be reached "
                f"({shortened(str(error), 100)}), and the files are not in its cache on this "
                "machine."
            ) from None
        return cached


def _download(address: HubAddress, *, bare: bool) -> HubFiles:
    from huggingface_hub import HfApi

    hub = HfApi()
    info = _asked(address, lambda: hub.model_info(address.repo, revision=address.revision))
    commit = str(info.sha)
    names = [sibling.rfilename for sibling in info.siblings or []]
    chosen = choose_files(names, address.path, _text(address), bare=bare)
    files: dict[str, Path] = {}
    for name in chosen.files:
        download = partial(hub.hf_hub_download, address.repo, name, revision=commit)
        with step(f"downloading {name} of {address.repo}"):
            files[name] = Path(_asked(address, download))
    # The commit's folder in the cache: above a file by as many levels as its name has.
    first = next(iter(files))
    root = files[first].parents[len(PurePosixPath(first).parts) - 1]
    return _files(address, commit, root / chosen.entry, files)


def _cached(address: HubAddress, *, bare: bool) -> HubFiles | None:
    """The files of an address that are in the cache, if enough of them are.

    What a branch was at is not recorded there. So for the default branch any one commit will do.
    """
    found = []
    for revision in _cached_revisions(address.repo):
        known = {revision.commit_hash, *revision.refs, None, _DEFAULT_REVISION}
        root = revision.snapshot_path
        names = {str(file.file_path.relative_to(root)): file.file_path for file in revision.files}
        try:
            chosen = choose_files(list(names), address.path, _text(address), bare=bare)
        except CheckpointError:
            continue
        if address.revision in known:
            files = {name: names[name] for name in chosen.files}
            found.append(_files(address, revision.commit_hash, root / chosen.entry, files))
    if len(found) > 1:
        listed = ", ".join(sorted(files.address for files in found))
        raise CheckpointError(
            f"checkpoint {_text(address)}: the Hub cannot be reached, and its cache on this "
            f"machine has several commits. Name one: {listed}."
        )
    return found[0] if found else None


def _cached_revisions(repo: str) -> Iterator[CachedRevisionInfo]:
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        cache = scan_cache_dir(constants.HF_HUB_CACHE)
    except CacheNotFound:
        return
    for entry in cache.repos:
        if entry.repo_id == repo and entry.repo_type == "model":
            yield from entry.revisions


def _files(address: HubAddress, commit: str, path: Path, files: Mapping[str, Path]) -> HubFiles:
    digests = {}
    for name, file in files.items():
        with step(f"hashing {name}"), open(file, "rb") as handle:
            digests[name] = hashlib.file_digest(handle, "sha256").hexdigest()
    return HubFiles(path, address.pinned(commit), digests)


def _asked(address: HubAddress, ask: Callable[[], Any]) -> Any:
    """What the Hub answers; its refusals as CheckpointError."""
    from huggingface_hub import errors

    where = f"checkpoint {_text(address)}"
    try:
        return ask()
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{where}: access to {address.repo} is restricted. Ask for it on the Hub's page of the "
            "repository, and log in with `hf auth login`."
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(
            f"{where}: {address.repo} has no revision {shown(address.revision)}."
        ) from None
    except errors.HFValidationError as error:
        raise CheckpointError(f"{where}: {shortened(str(error))}") from None
    except errors.HfHubHTTPError as error:
        unknown = isinstance(error, errors.RepositoryNotFoundError)
        if unknown or error.response.status_code in (401, 403):
            raise CheckpointError(
                f"{where}: the Hub has no repository {address.repo}, or it is private. For a "
                "private one, log in with `hf auth login` or set HF_TOKEN."
            ) from None
        answer = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"{where}: the Hub answered {shortened(answer)}.") from None


def _unreachable() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises without a connection; which HTTP client it uses varies."""
    clients = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return (OSError, *(client.HTTPError for client in clients))


def _text(address: HubAddress) -> str:
    revision = f"@{address.revision}" if address.revision else ""
    return f"{HUB_SCHEME}{address.repo}{revision}" + (f"/{address.path}" if address.path else "")


def _require() -> None:
    # Progress bars of downloads would tear the command's own output.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise CheckpointError(
            "A checkpoint hf://... needs the package huggingface_hub: "
            "pip install 'blockwise-predict[hub]'."
        ) from None
