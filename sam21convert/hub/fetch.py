"""Download checkpoints from the Hugging Face Hub with ``huggingface_hub``.

Files go to its cache, and its environment variables apply (``HF_HOME``, ``HF_TOKEN``,
``HF_HUB_OFFLINE``, ...). It checks only the sizes of files, so each new file is checked here
against the hash that the Hub states for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..config.beside import YAML, names_beside
from ..config.transformers_folder import PROCESSORS
from ..errors import RefusedError, SeveralCheckpointsError
from ..io.data.checksums import git_hash
from ..io.folder import ADAPTER, Found, Listing, Weights, find_weights, is_index, list_folder
from ..io.nearby import expanded
from ..io.onnx import FOLDER as ONNX
from ..io.onnx import VARIANTS
from ..io.safetensors import read_weight_map
from ..io.source import CONFIG
from .download import MAX_FILE, cache, check, reject
from .errors import Failure, invalid_id_error, translate_read_errors
from .published import PUBLISHED
from .retry import retry
from .spelling import parse, published_named, spelt
from .watching import watched

# Repository -> config and checkpoint file, as in HF_MODEL_ID_TO_FILENAMES of build_sam.py.
OFFICIAL: Mapping[str, tuple[str, str]] = {
    published.repo: (published.config, published.file) for published in PUBLISHED
}
_NAMED = {".bin", ".ckpt", ".json", ".pkl", ".pt", ".pth", ".safetensors"}  # certainly files


class Fetched(NamedTuple):
    """A checkpoint on this machine.

    Attributes:
        path: the file or folder.
        config: the YAML for it: that with its name, or the only one if it has no other config.
        notes: what a user should know about the choice, a sentence each.
    """

    path: Path
    config: Path | None = None
    notes: tuple[str, ...] = ()


class Chosen(NamedTuple):
    """What holds the weights among files.

    Attributes:
        weights: where they are.
        config: the path of the YAML for them: of that with their name, or of the only one if they
            have no config of their own.
        found: everything that was found.
    """

    weights: Weights
    config: str | None
    found: Found

    @property
    def home(self) -> str:
        """The folder of the weights."""
        if self.weights.is_file:
            return self.weights.file.rpartition("/")[0]
        return self.weights.place


def fetch(model_id: str | Path) -> tuple[Path, str | Path | None]:
    """Find a checkpoint and its config in a repository of the Hub or in a local path.

    From an official repository the ``.pt`` file is taken. In any other, and in a local folder, it
    is found as :func:`choose` says.

    Args:
        model_id: a local file or folder, a repository as ``org/name`` or ``org/name@revision``, or
            what else :func:`~.spelling.spelt` knows.

    Returns:
        The file or folder of the checkpoint, and its config: the path of a YAML, for official
        repositories the name of a shipped config, or None. A transformers folder has its own
        config, so the second is None.

    Raises:
        UsageError: when ``model_id`` is neither a path nor the form of a repository, or when there
            are several checkpoints.
        RefusedError: when there is no checkpoint.
        UnreadableError: when the repository does not exist, is closed to the user, or cannot be
            reached.
    """
    local = expanded(Path(model_id))
    if local.is_dir():
        return _in_folder(str(model_id), local)[:2]
    if local.exists():
        return local, None
    text = str(model_id)
    taken = spelt(text) or (f"hf://{text}" if text.partition("@")[0].count("/") == 1 else None)
    if taken is None:
        raise invalid_id_error(text)
    published = published_named(taken)
    head, repo, revision, file = parse(f"hf://{published.repo}" if published else taken)
    if file:
        return fetch_named(head, repo, revision, file)[:2]
    if repo in OFFICIAL:
        config, checkpoint = OFFICIAL[repo]
        return fetch_file(repo, revision, checkpoint), config
    return fetch_repository(head, repo, revision)[:2]


def fetch_repository(head: str, repo: str, revision: str | None, inside: str = "") -> Fetched:
    """Download the checkpoint of a repository or of a folder in it, with its config.

    Args:
        head: what the user wrote before the name of the folder, for messages.
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.
        inside: the path of the folder in the repository; empty for all of it.

    Returns:
        The folder that holds the weights, or the only checkpoint, as :func:`choose` says. Of a
        folder only what is needed is downloaded.

    Raises:
        UsageError: when there are several checkpoints.
        RefusedError: when there is no checkpoint.
        UnreadableError: when the repository or the folder does not exist, is closed to the user, or
            cannot be reached.
    """
    where = f"{head}/{inside}" if inside else head
    if _is_offline():
        folder = _snapshot(repo, revision) / inside
        if not folder.is_dir():
            return Fetched(fetch_file(repo, revision, inside))  # its error says what is missing
        return _in_folder(where, folder)
    with translate_read_errors(repo):
        commit, everything = listing(repo, revision)
    start = f"{inside}/" if inside else ""
    names = [name.removeprefix(start) for name in everything if name.startswith(start)]
    if inside and not names:
        return Fetched(fetch_file(repo, revision, inside))  # a file, or its error says that
    chosen = choose(where, names)
    needed = _needed(chosen, names, lambda name: fetch_file(repo, commit, f"{start}{name}"))
    # One file by the name of the revision, so that the cache can resolve that name when offline;
    # then all files by the hash of the commit, so that they belong together.
    fetch_file(repo, revision, f"{start}{needed[0]}")
    paths = {name: fetch_file(repo, commit, f"{start}{name}") for name in needed}
    config = None if chosen.config is None else paths[chosen.config]
    if chosen.weights.is_file:
        return Fetched(paths[chosen.weights.file], config)
    below = needed[0].removeprefix(f"{chosen.home}/" if chosen.home else "").count("/")
    return Fetched(paths[needed[0]].parents[below], config, chosen.found.notes(needed))


def fetch_named(head: str, repo: str, revision: str | None, name: str) -> Fetched:
    """Download a file or folder of a repository, with the files without which it cannot be read.

    Args:
        head: what the user wrote before the name, for messages.
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.
        name: the path in the repository.

    Returns:
        The file, beside which are the shards of an index, the settings of an adapter and its own
        configs; or the checkpoint in the folder.

    Raises:
        UsageError: when a folder holds several checkpoints.
        RefusedError: when a folder holds no checkpoint.
        UnreadableError: when there is nothing of that name, or it cannot be downloaded.
    """
    name = name.rstrip("/")
    home, _, file = name.rpartition("/")
    if PurePosixPath(file).suffix not in _NAMED:
        return fetch_repository(head, repo, revision, name)
    path = fetch_file(repo, revision, name)
    names = _names_beside(repo, path, name)
    beside = sorted({*read_weight_map(path).values()}) if is_index(file) else []
    if file in ADAPTER[1] and ADAPTER[0] in names:
        beside = [ADAPTER[0]]
    for other in (*beside, *names_beside(file, names)):
        fetch_file(repo, _commit_of(path, name), f"{home}/{other}".lstrip("/"))
    return Fetched(path)


def _names_beside(repo: str, path: Path, name: str) -> list[str]:
    """The names in the folder of a downloaded file, in the cache or on the Hub."""
    if _is_offline():
        return [one.name for one in path.parent.iterdir()]
    home = name.rpartition("/")[0]
    with translate_read_errors(repo):
        _, names = listing(repo, _commit_of(path, name))
    return [one.rpartition("/")[2] for one in names if one.rpartition("/")[0] == home]


def _commit_of(path: Path, name: str) -> str:
    """The commit in whose folder of the cache a file is, so that files belong together."""
    return path.parents[name.count("/")].name


def _needed(chosen: Chosen, names: Sequence[str], fetch_index: Callable[[str], Path]) -> list[str]:
    """The files to download: small ones first."""
    weights, home = chosen.weights, f"{chosen.home}/" if chosen.home else ""
    wanted = [] if chosen.config is None else [chosen.config]
    if weights.is_file:
        wanted += _own_configs(chosen, names)
    else:
        beside = [CONFIG, *PROCESSORS] if f"{home}{CONFIG}" in names else []
        if weights.container == "PEFT adapter":
            beside = [ADAPTER[0]]
        wanted += [f"{home}{name}" for name in beside]
    if weights.container == "onnx folder":  # of its graphs, those whose weights were not rounded
        rounded = tuple(f"{end}.onnx" for end in VARIANTS.values() if end)
        graphs = (name for name in names if name.rpartition("/")[0] == f"{home}{ONNX}")
        wanted += [name for name in graphs if not name.endswith(rounded)]
    if not weights.file:
        held = re.compile(
            rf"{re.escape(home)}([^/]+\.distcp|(.+/)?[^/]+_states\.pt|\.metadata|latest)"
        )
        wanted += [name for name in names if held.fullmatch(name)]
    else:
        wanted.append(weights.file)
    if is_index(weights.file.rpartition("/")[2]):
        shards = {*read_weight_map(fetch_index(weights.file)).values()}
        wanted += [f"{home}{shard}" for shard in sorted(shards)]
    return [name for name in dict.fromkeys(wanted) if name in {*names}]


def _is_offline() -> bool:
    from huggingface_hub.constants import HF_HUB_OFFLINE

    return HF_HUB_OFFLINE


def _snapshot(repo: str, revision: str | None) -> Path:
    """The folder of the cache with what was downloaded earlier."""
    import huggingface_hub

    with translate_read_errors(repo):
        return Path(huggingface_hub.snapshot_download(repo, revision=revision))


def listing(repo: str, revision: str | None) -> tuple[str | None, list[str]]:
    """List the files of a repository at a revision.

    Args:
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.

    Returns:
        The hash of the commit, and the paths of its files. The errors of ``huggingface_hub`` are
        not translated.
    """
    import huggingface_hub

    info = retry(lambda: huggingface_hub.HfApi().model_info(repo, revision=revision))
    return info.sha or revision, [file.rfilename for file in info.siblings or ()]


def _in_folder(where: str, folder: Path) -> Fetched:
    listed = list_folder(folder)
    chosen = choose(where, listed.names, complete=listed.complete)
    config = None if chosen.config is None else folder / chosen.config
    return Fetched(folder / chosen.weights.place, config)


def choose(where: str, names: Sequence[str], *, complete: bool = True) -> Chosen:
    """Choose the weights and the config among the files of a folder or repository.

    Args:
        where: the folder or repository, as a user would write it.
        names: the paths of its files, with ``/`` between folders.
        complete: whether these are all.

    Returns:
        What :func:`~sam21convert.io.folder.find_weights` finds, if that is one checkpoint.

    Raises:
        RefusedError: when there is no checkpoint.
        SeveralCheckpointsError: when there are several.
    """
    found = find_weights(where, Listing(names, complete))
    weights = found.weights
    if weights is None:
        message, hint = found.problem()
        if not found.candidates:
            raise RefusedError(message, hint=hint)
        start = f"{where.rstrip('/')}/"
        sources = [start + one.place if one.place else where for one in found.candidates]
        raise SeveralCheckpointsError(message, hint=hint, sources=sources)
    yamls = [name for name in names if PurePosixPath(name).suffix in YAML]
    chosen = Chosen(weights, yamls[0] if len(yamls) == 1 else None, found)
    if weights.is_file:
        own = _own_configs(chosen, names)
        own_yaml = next((name for name in own if PurePosixPath(name).suffix in YAML), None)
        return chosen._replace(config=own_yaml) if own else chosen
    own_json = f"{chosen.home}/{CONFIG}".lstrip("/") in names
    return chosen._replace(config=None) if own_json else chosen


def _own_configs(chosen: Chosen, names: Sequence[str]) -> list[str]:
    """The paths of the configs that belong to a checkpoint file, which opening it finds."""
    home, start = chosen.home, f"{chosen.home}/" if chosen.home else ""
    there = [name.removeprefix(start) for name in names if name.rpartition("/")[0] == home]
    return [start + name for name in names_beside(chosen.weights.file.removeprefix(start), there)]


def fetch_file(repo: str, revision: str | None, name: str) -> Path:
    """Download one file of a repository; a file that is new in the cache is checked.

    Args:
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.
        name: the path of the file in the repository.

    Returns:
        The path of the file in the cache of ``huggingface_hub``.

    Raises:
        UsageError: when ``repo`` is not the form of a repository.
        UnreadableError: when the file cannot be downloaded or has the wrong hash.
        RefusedError: when the file is larger than any checkpoint of SAM 2.
    """
    import huggingface_hub

    with translate_read_errors(f"{repo}/{name}"):
        before = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
        if not isinstance(before, str) and not huggingface_hub.constants.HF_HUB_OFFLINE:
            _refuse_large(repo, revision, name)
        path = retry(
            lambda: huggingface_hub.hf_hub_download(
                repo, name, revision=revision, **watched(huggingface_hub.hf_hub_download)
            ),
            _was_not_retried,
        )
    if path != before:
        check_cached(Path(path), repo, name)
    return Path(path)


def _was_not_retried(error: Exception) -> bool:
    """Whether the storage was busy; ``huggingface_hub`` itself retries after any other answer."""
    failure = Failure.of(error)
    return failure.of_storage and failure.transient and failure.status not in (None, 429)


def _refuse_large(repo: str, revision: str | None, name: str) -> None:
    import huggingface_hub

    size = None
    with suppress(Exception):  # the download reports what is wrong
        url = huggingface_hub.hf_hub_url(repo, name, revision=revision)
        size = huggingface_hub.get_hf_file_metadata(url).size
    if size is not None and size > MAX_FILE:
        raise RefusedError(
            f"{repo}/{name}: has {size:,} bytes, more than the {MAX_FILE:,} allowed for a file",
            hint="no checkpoint of SAM 2 has this size: check the name",
        )


def check_cached(path: Path, repo: str, name: str) -> None:
    """Check a file in the cache of ``huggingface_hub`` against the hash that the Hub states.

    The hash is the SHA-256 for a file in LFS, and git's hash for any other. The cache links to a
    blob that is named by it.

    Args:
        path: the file in the cache.
        repo: the repository, as ``org/name``.
        name: the path of the file in the repository.

    Raises:
        UnreadableError: when the hash is wrong. The file is moved to the cache of this package, so
            that the next try downloads it again.
    """
    what, keep_beside = f"{repo}/{name}", cache() / "hub" / repo / PurePosixPath(name).name
    expected = path.resolve().name if path.is_symlink() else _hash_on_hub(path, repo, name)
    if re.fullmatch("[0-9a-f]{64}", expected):
        check(path, what, None, expected, keep_beside)
    elif re.fullmatch("[0-9a-f]{40}", expected):
        found = git_hash(path)
        if found != expected:
            wrong = f"has the git hash {found}, expected {expected}"
            reject(path, what, wrong, f"git-{found[:16]}", keep_beside)


def _hash_on_hub(path: Path, repo: str, name: str) -> str:
    """Ask the Hub for the hash of a file: on some file systems the cache has no links."""
    import huggingface_hub

    commit = path.parents[len(PurePosixPath(name).parts) - 1].name
    with translate_read_errors(f"{repo}/{name}"):
        url = huggingface_hub.hf_hub_url(repo, name, revision=commit)
        return huggingface_hub.get_hf_file_metadata(url).etag or ""
