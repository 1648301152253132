"""Download checkpoints from the Hugging Face Hub with ``huggingface_hub``.

Files go to its cache, and its environment variables apply (``HF_HOME``, ``HF_TOKEN``,
``HF_HUB_OFFLINE``, ...). It checks only the sizes of files, so each new file is checked here
against the hash that the Hub states for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..config.transformers_folder import PROCESSORS
from ..errors import RefusedError, UsageError
from ..io.data.checksums import git_hash
from ..io.safetensors import read_weight_map
from ..io.source import CONFIG, INDEX, WEIGHTS
from .download import MAX_FILE, cache, check, reject
from .errors import invalid_id_error, translate_read_errors
from .published import PUBLISHED
from .retry import retry

# Repository -> config and checkpoint file, as in HF_MODEL_ID_TO_FILENAMES of build_sam.py.
OFFICIAL: Mapping[str, tuple[str, str]] = {
    published.repo: (published.config, published.file) for published in PUBLISHED
}
_CHECKPOINTS = {".pt", ".pth", ".safetensors"}
_YAML = {".yaml", ".yml"}


def fetch(model_id: str | Path) -> tuple[Path, str | Path | None]:
    """Find a checkpoint and its config in a repository of the Hub or in a local path.

    From an official repository the ``.pt`` file is taken. From any other, and from a local folder,
    the transformers folder is taken if it is one, else the only checkpoint, with the YAML beside it
    if there is exactly one.

    Args:
        model_id: a local file or folder, or a repository as ``org/name`` or ``org/name@revision``.

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
    local = Path(model_id)
    if local.is_dir():
        return _in_folder(str(model_id), local, "*")
    if local.exists():
        return local, None
    repo, _, revision = str(model_id).partition("@")
    if repo.count("/") != 1:
        raise invalid_id_error(str(model_id))
    if repo in OFFICIAL:
        config, checkpoint = OFFICIAL[repo]
        return fetch_file(repo, revision or None, checkpoint), config
    return fetch_repository(repo, revision or None)


def fetch_repository(repo: str, revision: str | None) -> tuple[Path, Path | None]:
    """Download the checkpoint of a repository, with its config.

    Args:
        repo: the repository, as ``org/name``.
        revision: a branch, tag, ``refs/pr/N`` or commit; None is the main branch.

    Returns:
        The transformers folder and None; or, when the repository is not one, the only checkpoint
        and the YAML beside it, None unless there is exactly one.

    Raises:
        UsageError: when there are several checkpoints.
        RefusedError: when there is no checkpoint.
        UnreadableError: when the repository does not exist, is closed to the user, or cannot be
            reached.
    """
    import huggingface_hub
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        with translate_read_errors(repo):
            folder = huggingface_hub.snapshot_download(repo, revision=revision)
        return _in_folder(repo, Path(folder), "**/*")
    with translate_read_errors(repo):
        commit, names = listing(repo, revision)
    weights, config = choose(repo, names)
    # One file by the name of the revision, so that the cache can resolve that name when offline;
    # then all files by the hash of the commit, so that they belong together.
    fetch_file(repo, revision, config or weights)
    needed = [weights, config, *(PROCESSORS if config == CONFIG else ())]
    if weights == INDEX:
        needed += read_weight_map(fetch_file(repo, commit, INDEX)).values()
    wanted = set(needed)
    paths = {name: fetch_file(repo, commit, name) for name in names if name in wanted}
    if config == CONFIG:
        return paths[CONFIG].parent, None
    return paths[weights], None if config is None else paths[config]


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


def _in_folder(where: str, folder: Path, pattern: str) -> tuple[Path, Path | None]:
    paths = [path for path in sorted(folder.glob(pattern)) if not path.is_dir()]
    weights, config = choose(where, [path.relative_to(folder).as_posix() for path in paths])
    if config == CONFIG:
        return folder, None
    return folder / weights, None if config is None else folder / config


def choose(where: str, names: Sequence[str]) -> tuple[str, str | None]:
    """Choose the weights and the config among the files of a folder or repository.

    Args:
        where: the folder or repository, for error messages.
        names: the paths of its files, with ``/`` between folders.

    Returns:
        The weights and the config, two of ``names``. For a transformers folder they are its weights
        (or the index of its shards) and ``config.json``; else the only checkpoint and the only
        YAML, or None when there is not exactly one.

    Raises:
        RefusedError: when there is no checkpoint.
        UsageError: when there are several.
    """
    for weights in (WEIGHTS, INDEX):
        if CONFIG in names and weights in names:
            return weights, CONFIG
    found = [name for name in names if PurePosixPath(name).suffix in _CHECKPOINTS]
    if not found:
        raise RefusedError(
            f"{where}: holds no checkpoint among its {len(names)} files",
            hint=f"a checkpoint is a .pt, .pth or .safetensors file, or {CONFIG} with {WEIGHTS}",
        )
    if len(found) > 1:
        raise UsageError(
            f"{where}: holds several checkpoints: {', '.join(found)}",
            hint="name one of them, by its path or as hf://org/repo/file",
        )
    configs = [name for name in names if PurePosixPath(name).suffix in _YAML]
    return found[0], configs[0] if len(configs) == 1 else None


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
        path = huggingface_hub.hf_hub_download(repo, name, revision=revision)
    if path != before:
        check_cached(Path(path), repo, name)
    return Path(path)


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
