"""Push: compose a repository, show what it changes, upload it, and verify the upload."""

from __future__ import annotations

import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from ...checkpoint.open import open_checkpoint
from ...errors import MismatchError, RefusedError, UsageError
from ...hub.download import redacted
from ...hub.errors import translate_errors
from ...hub.redaction import redacted_logs, redacted_warnings
from ...hub.resolve import locate
from ...hub.retry import bounded, retry
from ...hub.spelling import spelt
from ...io.nearby import expanded
from ...io.output.atomic import new_folder, refuse_existing
from ...io.output.folders import refuse_file_name
from ...io.output.temporary import temporary_folder
from ...io.source import WEIGHTS
from ...prediction.devices import pick_device
from ...report import SILENT, Progress
from .allowed import check_card, check_user
from .needs import check_packages
from .phases import Phases
from .present import Present, ask
from .proof import Scenarios
from .publication import Publication
from .replace import refuse_contradiction, refuse_foreign
from .repository import Repository, compose
from .spaces import Spaces, Wanted
from .upload import RemoteState, commit, create, verify

if TYPE_CHECKING:
    from ...comparison.sides import Config
    from ...prediction.prompts import Prompt
    from .example import Example

SPACE, APP = "space", "app"  # the folders of the Spaces in that of a dry run
MESSAGE = "Upload with sam21convert"
_NEW_PROPOSAL = "a new pull request"  # shown as the revision until it has one


@bounded()
@redacted_logs()
@redacted_warnings()
def push(
    source: str | Path,
    repo_id: str,
    *,
    to: str | None = None,
    config: Config = None,
    with_official: bool = False,
    with_onnx: bool = False,
    page_space: str | None = None,
    page_cdn: bool = False,
    app_space: str | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    private: bool = False,
    message: str = MESSAGE,
    license: str | None = None,  # noqa: A002 - the name that the field has
    base_model: str | None = None,
    datasets: Sequence[str] = (),
    example: str | Path | None = None,
    prompts: Sequence[Prompt] = (),
    scenarios: Scenarios = "quick",
    device: str = "auto",
    evaluate: str | Path | None = None,
    dry_run: bool = False,
    output: str | Path | None = None,
    progress: Progress = SILENT,
    announce: Callable[[Publication], None] = lambda plan: None,
) -> Publication:
    """Publish a checkpoint as a repository of the Hugging Face Hub.

    Converts it, checks that the result loads and computes what the source does, writes a card,
    uploads what the Hub does not have yet, and verifies the upload. The token is that of
    ``huggingface_hub``.

    A file of the repository is replaced only if ``sam21convert.json`` beside it lists it with the
    hash it has now; any other file belongs to someone else.

    Args:
        source: The checkpoint, as for :func:`~sam21convert.convert`.
        repo_id: The repository, ``namespace/name``; it is created if it does not exist.
        to: The dialect, as for :func:`~sam21convert.workflows.publish.repository.compose`.
        config: As for :func:`~sam21convert.convert`.
        with_official: Whether to add the ``.pt`` and the YAML of the official code.
        with_onnx: Whether to add graphs for ONNX runtimes, as :func:`~sam21convert.export_onnx`
            writes them, with those for videos; if ``source`` is an export, its own.
        page_space: A static Space, ``namespace/name``, for the :func:`~sam21convert.page` that runs
            these graphs in a browser; it is created if it does not exist.
        page_cdn: As ``cdn`` of :func:`~sam21convert.page`.
        app_space: A Space, ``namespace/name``, for a server of the page that ``sam21convert serve``
            opens, with the published model; it is created if it does not exist.
        create_pr: Whether to open a pull request. An open one by the same user with the title
            ``message`` is continued instead.
        revision: A branch or ``refs/pr/N``; None means ``main``.
        private: Whether the repository is private, if it is created.
        message: The title of the commit and of the pull request.
        license: For the card, an id such as ``apache-2.0``.
        base_model: For the card, the id of the model that this one was trained from.
        datasets: For the card, ids of the datasets that it was trained on.
        example: A photo for the card, with ``prompts``: the card shows the masks that the published
            model finds in it. Its pixels are published as ``photo.jpg``, at most 1024 a side,
            without metadata. None draws a scene.
        prompts: Points and boxes in pixels of ``example``, as for
            :func:`~sam21convert.predict_image`.
        scenarios: How thoroughly to compare the result with the source: ``"quick"``, ``"full"`` or
            ``"none"``, which runs no model: nothing is compared, and the card has no picture.
        device: The device to compare on, as for :func:`~sam21convert.parity`.
        evaluate: A data set, as for :func:`~sam21convert.evaluate`: source and result track its
            objects, no pixel of their masks may differ, and the card says so, with J&F.
        dry_run: Whether to do everything except writing to the Hub. If the Hub cannot be reached
            or asks for a token, the answer says what would be uploaded, and not what that changes.
        output: A new folder, to which a dry run writes what would be uploaded, to look at.
        progress: As for :func:`~sam21convert.parity`.
        announce: Called with what will be uploaded, before anything is written to the Hub.

    Returns:
        What was, or would be, changed and where.

    Raises:
        UsageError: If the arguments exclude each other or are impossible, or the device is not
            there.
        MissingPackageError: Before anything is done, if torch or transformers is needed to compare
            and not installed.
        RefusedError: If files of someone else would be replaced, the user may not write, or the Hub
            rejects the upload.
        UnreadableError: If the repository does not exist or the Hub cannot be reached.
        MismatchError: If the model does not pass its checks, or the Hub holds other files than
            those that were uploaded.

    Example:
        >>> plan = sam21convert.push("model.pt", "org/new-sam2", license="apache-2.0", dry_run=True)
        >>> plan.uploaded
        False
    """
    _check_request(repo_id, revision, create_pr=create_pr)
    asked = Wanted(page_space, page_cdn, app_space)
    asked.check(with_onnx=with_onnx, create_pr=create_pr)
    tracks, serves = evaluate is not None, app_space is not None
    check_packages(to, scenarios, with_onnx=with_onnx, tracks=tracks, serves=serves)
    device, shown = _device(device, scenarios, evaluate), _example(example, prompts, scenarios)
    wanted, progress = _wanted(output, dry_run=dry_run), Phases(progress, uploads=not dry_run)
    api, title = HfApi(library_name="sam21convert"), message if create_pr else None
    card: dict[str, Any] = {"license": license, "base_model": base_model, "datasets": [*datasets]}
    how: dict[str, Any] = {"to": to, "config": config, "with_official": with_official}
    how |= {"with_onnx": with_onnx, "scenarios": scenarios, "device": device, "data": evaluate}
    _refuse_early(api, source, [repo_id, *asked.names], card, proposes=create_pr, dry_run=dry_run)
    there = ask(api, repo_id, revision, title, dry_run=dry_run)
    beside = asked.ask(api, dry_run=dry_run)
    with _scratch() as scratch:
        repository = compose(
            source,
            scratch / "repository",
            repo_id,
            **how,
            readme=there.readme,
            earlier=there.ours.values(),
            **card,
            example=shown,
            progress=progress,
        )
        spaces = asked.compose(repository, scratch, api, beside, progress)
        plan = _plan(api, repository, spaces, there, revision, propose=create_pr, private=private)
        if dry_run or plan.is_there:
            return replace(plan, dry_run=dry_run, output=_written(plan, spaces, wanted))
        announce(plan)
        return _published(api, plan, spaces, there.state, message, progress, private=private)


def _refuse_early(
    api: HfApi,
    source: str | Path,
    names: Sequence[str],
    card: dict[str, Any],
    *,
    proposes: bool,
    dry_run: bool,
) -> None:
    """Say that the source is missing, and what the Hub would refuse after all was computed."""
    _refuse_missing(source)
    if not dry_run:
        check_user(api, names, proposes=proposes)
    check_card(names[0], card, dry_run=dry_run)


def _device(device: str, scenarios: Scenarios, data: str | Path | None) -> str:
    """The device to compare on, if there is one; ``"auto"`` is chosen when something is compared.

    Choosing needs torch, and what was compared before need not be compared again.
    """
    if data is None and (device == "auto" or scenarios == "none"):
        return device
    return pick_device(device, to_compare=True)


def _refuse_missing(source: str | Path) -> None:
    """Say that a file is missing before the Hub is asked."""
    if "://" not in str(source) and spelt(str(source)) is None:
        locate(source)


def _example(
    photo: str | Path | None, prompts: Sequence[Prompt], scenarios: Scenarios
) -> Example | None:
    """The picture of the card, read before anything is done."""
    if photo is None:
        if prompts:
            raise UsageError(
                f"{prompts[0]}: points and boxes are for a photo of the card, and none is given",
                hint="`example=PHOTO` gives one",
            )
        return None
    if scenarios == "none":
        raise UsageError(
            f"{photo}: masks are drawn in it by running the model, and `scenarios=none` runs none",
            hint="leave `scenarios=none` out",
        )
    from .example import read_example

    return read_example(photo, prompts)


def _wanted(output: str | Path | None, *, dry_run: bool) -> Path | None:
    """The folder for the files of a dry run, which must not exist."""
    if output is None:
        return None
    if not dry_run:
        raise UsageError(
            f"{output}: the files are written to a folder instead of the Hub, and `dry_run` was "
            "not asked for",
            hint="`dry_run=True` uploads nothing",
        )
    folder = expanded(Path(output))
    refuse_existing(folder, overwrite=None)
    refuse_file_name(folder)
    return folder


def _written(plan: Publication, spaces: Spaces, output: Path | None) -> Path | None:
    """Copy all files to the folder that was asked for."""
    if output is not None:
        pages = {
            f"{folder}/{name}": path
            for folder, space in ((SPACE, spaces.page), (APP, spaces.app))
            if space is not None
            for name, path in space.paths.items()
        }
        with new_folder(output, overwrite=None) as temporary:
            for name, path in {**plan.repository.paths, **pages}.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, temporary / name)
    return output


def _plan(
    api: HfApi,
    repository: Repository,
    spaces: Spaces,
    there: Present,
    revision: str | None,
    *,
    propose: bool,
    private: bool,
) -> Publication:
    """What an upload changes in the repository; what would harm files of others is refused."""
    revision = revision or there.proposal or (_NEW_PROPOSAL if propose else "main")
    state, silence = there.state, there.silence
    changes = there.changes(repository.paths)
    notes = ("the repository exists: its visibility is not changed",) if private and state else ()
    if silence is not None:
        notes = (f"what the repository has is not known, since it was not asked: {silence}",)
    if state is not None:
        refuse_contradiction(repository.repo_id, state, changes)
        if not propose:
            refuse_foreign(repository.repo_id, state, changes, there.ours)
    return Publication(
        repo_id=repository.repo_id,
        revision=revision,
        url=_url(api, repository.repo_id, revision),
        repository=repository,
        changes=changes,
        foreign=there.foreign(changes),
        creates=state is None and silence is None,
        uploaded=False,
        dry_run=False,
        asked=silence is None,
        commit=state.head if state and {*changes.values()} == {"same"} else None,
        output=None,
        page=None if spaces.page is None else spaces.page.plan,
        app=None if spaces.app is None else spaces.app.plan,
        notes=notes,
    )


def _check_request(repo_id: str, revision: str | None, *, create_pr: bool) -> None:
    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise UsageError(f"{repo_id}: not a valid repository name: {error}") from error
    if "/" not in repo_id:
        raise UsageError(f"{repo_id}: expected NAMESPACE/NAME", hint="for example my-name/my-sam2")
    if create_pr and revision is not None:
        raise UsageError(
            "`create_pr` and `revision` exclude each other: a pull request has its own revision"
        )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A temporary folder; the error names it when its disk is full."""
    with temporary_folder() as folder:
        try:
            yield folder
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            raise RefusedError(
                f"{tempfile.gettempdir()}: {error.strerror}",
                hint="files are composed there before the upload; set TMPDIR to a larger disk",
            ) from error


def _verify(api: HfApi, repo_id: str, revision: str, repository: Repository) -> str:
    """Compare the files on the Hub with the local ones, and the header of the weights.

    Returns the commit that was looked at.
    """
    head = verify(api, repo_id, revision, repository.paths).head
    if WEIGHTS not in repository.files:
        return head
    with translate_errors(f"{repo_id}/{WEIGHTS}"):
        header = retry(lambda: api.parse_safetensors_file_metadata(repo_id, WEIGHTS, revision=head))
    remote = {name: (info.dtype, tuple(info.shape)) for name, info in header.tensors.items()}
    local = open_checkpoint(repository.folder).inventory
    if remote != {name: (spec.dtype, spec.shape) for name, spec in local.items()}:
        raise MismatchError(
            f"{repo_id}: the header of {WEIGHTS} differs from that of the local file"
        )
    return head


def _published(
    api: HfApi,
    plan: Publication,
    spaces: Spaces,
    state: RemoteState | None,
    message: str,
    progress: Phases,
    *,
    private: bool,
) -> Publication:
    """Upload the repository, and then the Spaces."""
    progress.enter("upload")
    if not plan.holds_all:
        base = state or create(api, plan.repo_id, private=private)
        new = plan.revision == _NEW_PROPOSAL
        plan = _uploaded(api, plan, base, message, propose=new, progress=progress)
    if spaces.page is not None:
        page = spaces.page.uploaded(api, message, progress, private=private)
        plan = replace(plan, page=page)
    if spaces.app is not None:
        plan = replace(plan, app=spaces.app.uploaded(api, message, progress, private=private))
    return plan


def _uploaded(
    api: HfApi,
    plan: Publication,
    base: RemoteState,
    message: str,
    *,
    propose: bool,
    progress: Progress,
) -> Publication:
    """Upload what is new or changed, and look at what the Hub then has."""
    files, repo_id = plan.repository.paths, plan.repo_id
    paths = {name: files[name] for name, how in plan.changes.items() if how != "same"}
    target = commit(api, repo_id, paths, base, message, propose=propose, progress=progress)
    progress.start("comparing with the Hub", 0)
    head, url = _verify(api, repo_id, target, plan.repository), _url(api, repo_id, target)
    return replace(plan, revision=target, url=url, commit=head, uploaded=True)


def _url(api: HfApi, repo_id: str, revision: str) -> str:
    home = f"{redacted(api.endpoint)}/{repo_id}"
    if revision.startswith("refs/pr/"):
        return f"{home}/discussions/{revision.removeprefix('refs/pr/')}"
    return home if revision in ("main", _NEW_PROPOSAL) else f"{home}/tree/{revision}"
