"""Checkpoints from the Hugging Face Hub, through ``huggingface_hub`` alone.

Files go to its cache, and its environment variables hold (``HF_HOME``, ``HF_TOKEN``,
``HF_HUB_OFFLINE``, ...). It compares sizes only, so each file that arrives is compared here with
the hash that the Hub states for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..config.transformers_folder import PROCESSORS
from ..errors import RefusedError, UsageError
from ..io.data.checksums import git_hash
from ..io.source import CONFIG, INDEX, WEIGHTS
from ..io.text import read_json
from .download import cache, check, refuse
from .errors import no_id, translate_read_errors
from .published import PUBLISHED
from .retry import retry

# Hub id -> config and checkpoint, as in the table of the official build_sam.py.
OFFICIAL: Mapping[str, tuple[str, str]] = {
    published.repo: (published.config, published.file) for published in PUBLISHED
}
_CHECKPOINTS = {".pt", ".pth", ".safetensors"}
_YAML = {".yaml", ".yml"}


def fetch(model_id: str | Path) -> tuple[Path, str | Path | None]:
    """The checkpoint that an id stands for, and its config where there is one beside it.

    ``model_id`` is a local file or folder, or a repository of the Hub: ``org/name``, or
    ``org/name@revision``. Of an official one the ``.pt`` is taken, of any other the transformers
    folder or the only checkpoint, with the YAML when there is just one.

    Raises :class:`UsageError` when it is neither or there are several checkpoints,
    :class:`RefusedError` when there is none, :class:`UnreadableError` when the repository does not
    exist, is closed to the user, or cannot be reached.
    """
    local = Path(model_id)
    if local.is_dir():
        return _in_folder(str(model_id), local, "*")
    if local.exists():
        return local, None
    repo, _, revision = str(model_id).partition("@")
    if repo.count("/") != 1:
        raise no_id(str(model_id))
    if repo in OFFICIAL:
        config, checkpoint = OFFICIAL[repo]
        return fetch_file(repo, revision or None, checkpoint), config
    return fetch_repository(repo, revision or None)


def fetch_repository(repo: str, revision: str | None) -> tuple[Path, Path | None]:
    """Of any repository the transformers folder or the only checkpoint, with its only YAML.

    Raises as :func:`fetch` does.
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
    # By name, so that the cache knows the name when offline; then all by hash, of one commit.
    fetch_file(repo, revision, config or weights)
    wanted = [weights, config, *(PROCESSORS if config == CONFIG else ())]
    if weights == INDEX:
        shards = read_json(fetch_file(repo, commit, INDEX)).get("weight_map")
        wanted += shards.values() if isinstance(shards, dict) else []
    paths = {name: fetch_file(repo, commit, name) for name in names if name in wanted}
    if config == CONFIG:
        return paths[CONFIG].parent, None
    return paths[weights], None if config is None else paths[config]


def listing(repo: str, revision: str | None) -> tuple[str | None, list[str]]:
    """The commit that a revision is now, and the names of its files. Raises as the client does."""
    import huggingface_hub

    info = retry(lambda: huggingface_hub.HfApi().model_info(repo, revision=revision))
    return info.sha or revision, [file.rfilename for file in info.siblings or ()]


def _in_folder(where: str, folder: Path, pattern: str) -> tuple[Path, Path | None]:
    paths = [path for path in sorted(folder.glob(pattern)) if path.is_file()]
    weights, config = choose(where, [path.relative_to(folder).as_posix() for path in paths])
    if config == CONFIG:
        return folder, None
    return folder / weights, None if config is None else folder / config


def choose(where: str, names: Sequence[str]) -> tuple[str, str | None]:
    """The weights and the config among the files of a folder or repository."""
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
            hint="name one: its path, or hf://org/repo/file",
        )
    configs = [name for name in names if PurePosixPath(name).suffix in _YAML]
    return found[0], configs[0] if len(configs) == 1 else None


def fetch_file(repo: str, revision: str | None, name: str) -> Path:
    """One file of a repository, checked as by :func:`check_cached` when it arrives.

    Raises :class:`UnreadableError` and :class:`UsageError`.
    """
    import huggingface_hub

    with translate_read_errors(f"{repo}/{name}"):
        before = huggingface_hub.try_to_load_from_cache(repo, name, revision=revision)
        path = huggingface_hub.hf_hub_download(repo, name, revision=revision)
    if path != before:
        check_cached(Path(path), repo, name)
    return Path(path)


def check_cached(path: Path, repo: str, name: str) -> None:
    """Compare a file in the cache with the hash that the Hub states: it is the name of its blob.

    That is the SHA-256 of what is in LFS, and git's hash of what is not. A file that has another
    is moved to the cache of this package. Raises :class:`UnreadableError` then.
    """
    what, evidence_of = f"{repo}/{name}", cache() / "hub" / repo / PurePosixPath(name).name
    stated = path.resolve().name if path.is_symlink() else _stated(path, repo, name)
    if re.fullmatch("[0-9a-f]{64}", stated):
        check(path, what, None, stated, evidence_of)
    elif re.fullmatch("[0-9a-f]{40}", stated):
        found = git_hash(path)
        if found != stated:
            wrong = f"has the git hash {found}, expected {stated}"
            refuse(path, what, wrong, f"git-{found[:16]}", evidence_of)


def _stated(path: Path, repo: str, name: str) -> str:
    """The hash of a file, from the Hub: there are caches without links, on some file systems."""
    import huggingface_hub

    commit = path.parents[len(PurePosixPath(name).parts) - 1].name
    with translate_read_errors(f"{repo}/{name}"):
        url = huggingface_hub.hf_hub_url(repo, name, revision=commit)
        return huggingface_hub.get_hf_file_metadata(url).etag or ""
