"""One run of a batch: its conversions, several at a time, each recorded at its start and end.

Conversions run on threads: copying happens in the kernel and checksums release the interpreter's
lock, so processes would not be faster, and a killed batch leaves no child processes behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...conversion.options import ConvertOptions
from ...conversion.plan import Plan, make_plan
from ...conversion.report import Conversion, report
from ...conversion.write import carry_out
from ...dialects import named
from ...errors import MismatchError, Sam21ConvertError
from ...hub.resolve import locate
from ...io.output.atomic import refuse_existing
from ...io.output.temporary import temporary_folder
from ...io.source import CONFIG, FOLDERS
from ...model.config import ModelConfig
from ...report import Progress, one_line
from .journal import Journal, JournalRecord, alone_in, stamps
from .manifest import identity
from .report import Item


@dataclass(frozen=True)
class Job:
    """One conversion.

    Attributes:
        source: As it was given.
        output: The name of the output in the folder of the batch, with its extension.
        suffix: The extension, empty for a folder.
        options: The options of the conversion.
    """

    source: str
    output: str
    suffix: str
    options: ConvertOptions


class _Stopped(Exception):  # noqa: N818 - not an error
    """The user has interrupted the batch."""


class _Interrupt(Progress):
    """Ends a conversion at its next step once the batch is stopped."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def advance(self, count: int, doing: str = "") -> None:
        """Raise :class:`_Stopped` once the batch is stopped."""
        if self.stop.is_set():
            raise _Stopped


class Run:
    """One run of a batch.

    Args:
        out: The output folder.
        jobs: The conversions.
        overwrite: As for :func:`~sam21convert.batch`.
        verify: As for :func:`~sam21convert.batch`.
        parity: As for :func:`~sam21convert.batch`.
        device: As for :func:`~sam21convert.batch`.
        progress: As for :func:`~sam21convert.batch`.
    """

    def __init__(
        self,
        out: Path,
        jobs: Sequence[Job],
        *,
        overwrite: bool,
        verify: bool,
        parity: bool,
        device: str,
        progress: Progress,
    ) -> None:
        self.out = out
        self.jobs = jobs
        self.journal = Journal(out)
        self.overwrite = overwrite
        self.verify = verify
        self.parity = parity
        self.device = device
        self.progress = progress
        self.stop = threading.Event()
        self.reporting, self.locating, self.comparing = (threading.Lock() for _ in range(3))

    def all(self, workers: int) -> list[Item]:
        """Convert. An interrupt removes the outputs that are not finished.

        Args:
            workers: The number of conversions at a time.

        Returns:
            The outcomes, in the order of the jobs.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with alone_in(self.out):
            self.journal = Journal(self.out)
            self.journal.sweep()
            self.progress.start("converting", len(self.jobs))
            return self._at_a_time(workers)

    def _at_a_time(self, workers: int) -> list[Item]:
        pool = ThreadPoolExecutor(workers)
        try:
            futures = [pool.submit(self._one, job) for job in self.jobs]
            return [future.result() for future in futures]
        except BaseException:
            self.stop.set()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _one(self, job: Job) -> Item:
        """Convert one source, unless its output is up to date."""
        start = time.monotonic()
        before = self.journal.get(job.output)
        item = Item(job.source, self.out / job.output)
        try:
            with self.reporting:
                self.progress.advance(0, job.source)
            if self._done(job, before):
                assert before is not None
                return replace(item, outcome="skipped", **before.facts)
            done = self._convert(job, before)
        except _Stopped:
            self.journal.put(job.output, before)
            raise
        except Exception as error:
            item = _failed(item, error)
            self.journal.put(job.output, self._failure(job, before, item.error))
        else:
            item = replace(item, outcome="converted", **_facts(done))
        self.progress.advance(1)
        return replace(item, seconds=time.monotonic() - start)

    def preview(self) -> list[Item]:
        """Tell what :meth:`all` would do, as far as the headers of the sources show.

        Returns:
            The expected outcomes, in the order of the jobs.
        """
        return [self._look(job) for job in self.jobs]

    def _look(self, job: Job) -> Item:
        before = self.journal.get(job.output)
        item = Item(job.source, self.out / job.output)
        try:
            if self._done(job, before):
                assert before is not None
                return replace(item, outcome="skipped", **before.facts)
            with temporary_folder() as scratch:
                plan = self._plan(job, scratch, overwrite=False)
                place = self.out / plan.destination.relative_to(scratch)
                if place.parent.is_dir():
                    refuse_existing(place, overwrite=self._may_replace(before))
                facts = _facts(report(plan, dry_run=True, verified=False, hashes=False))
            return replace(item, outcome="planned", **facts)
        except Exception as error:
            return _failed(item, error)

    def _done(self, job: Job, before: JournalRecord | None) -> bool:
        """Whether the output exists and a new conversion would give the same.

        Raises :class:`MismatchError` if it would not and the output must not be replaced.
        """
        if before is None or before.state != "converted":
            return False
        now = stamps((self.out / name for name in before.written), self.out)
        path = self._located(job.source).absolute()
        why = None
        if any(now[name] != before.written[name] for name in now):
            why = "was changed after it was written"
        elif before.source != identity(job.source):
            why = f"was made from {before.source}"
        elif before.options != self._options(job):
            why = "was made with other options"
        elif str(path) != before.path or stamps(map(Path, before.read)) != before.read:
            why = f"was made from an earlier version of {job.source}"
        if why is not None and not self.overwrite:
            raise MismatchError(
                f"{self.out / job.output}: {why}", hint="`overwrite=True` replaces it"
            )
        return why is None and now == before.written

    def _convert(self, job: Job, before: JournalRecord | None) -> Conversion:
        """Write the output; the journal records its start before and the result after."""
        overwrite = self._may_replace(before)
        folder = self.out / job.output
        own_folder = _goes_by_name(job.options.to)
        try:
            if own_folder:
                folder.mkdir(exist_ok=True)
            plan = self._plan(job, self.out, overwrite=overwrite)
            record = JournalRecord(
                source=identity(job.source),
                suffix=job.suffix,
                state="started",
                path=str(plan.source.source.path.absolute()),
                options=self._options(job),
                read=stamps(_files(plan, job.options.config)),
            )
            self.journal.put(job.output, record)
            done = self._carry_out(plan, overwrite)
        finally:
            if own_folder:
                with suppress(OSError):  # it is not empty
                    folder.rmdir()
        home = plan.destination if plan.container in FOLDERS else plan.destination.parent
        written = stamps((home / name for name in done.files), self.out)
        record = replace(record, state="converted", written=written, facts=_facts(done))
        self.journal.put(job.output, record)
        return done

    def _plan(self, job: Job, home: Path, *, overwrite: bool) -> Plan:
        base = None if job.options.base is None else self._located(job.options.base)
        source = self._located(job.source)
        options = replace(job.options, base=base, overwrite=overwrite)
        return make_plan(source, home / job.output, options)

    def _carry_out(self, plan: Plan, overwrite: bool) -> Conversion:
        interrupt = _Interrupt(self.stop)
        interrupt.advance(0)
        if self.parity:
            from ..convert_and_compare import convert_with_evidence

            done = convert_with_evidence(
                plan,
                overwrite=overwrite,
                verify=self.verify,
                hashes=False,
                device=self.device,
                progress=interrupt,
                alone=self.comparing,  # torch uses all cores, and its settings are global
            ).answer
            assert isinstance(done, Conversion)
            return done
        equal = carry_out(plan, overwrite=overwrite, verify=self.verify, progress=interrupt)
        return report(plan, dry_run=False, verified=self.verify, hashes=False, identical_to=equal)

    def _may_replace(self, before: JournalRecord | None) -> bool:
        """Whether a file or folder at the output may be replaced: the batch wrote it itself."""
        return self.overwrite or (before is not None and before.state != "failed")

    def _located(self, source: str | Path) -> Path:
        with self.locating:  # two threads could start the same download
            return locate(source)

    def _options(self, job: Job) -> dict[str, Any]:
        """What the output depends on besides the files that are read."""
        return {**job.options.given(), "parity": self.parity}

    def _failure(self, job: Job, before: JournalRecord | None, error: str | None) -> JournalRecord:
        """The record of a failure; an earlier output keeps its record and gets the error."""
        if before is not None and before.state != "failed":
            return replace(before, error=error)
        return JournalRecord(identity(job.source), job.suffix, "failed", error=error)


def _goes_by_name(to: str | None) -> bool:
    """Whether programs know the files of a dialect by name, so that each output needs a folder."""
    return to is not None and bool(named(to).file)


def _files(plan: Plan, config: str | Path | ModelConfig | None) -> Iterator[Path]:
    """All files that the output depends on."""
    if isinstance(config, (str, Path)):
        yield Path(config) / CONFIG if Path(config).is_dir() else Path(config)
    for source in plan.sources:
        yield from source.files
        if source.path.is_dir():
            yield source.path / CONFIG


def _facts(done: Conversion) -> dict[str, Any]:
    return {
        "source_dialect": done.source_dialect,
        "dialect": done.dialect,
        "config": done.config,
        "generation": done.generation,
        "dtypes": done.dtypes,
        "bytes": done.bytes,
        "identical_to": None if done.identical_to is None else str(done.identical_to),
        "safety": done.safety.rating,
    }


def _failed(item: Item, error: Exception) -> Item:
    if isinstance(error, MismatchError):  # only reports of differences span lines
        return replace(item, error=error.message, hint=error.hint)
    if isinstance(error, Sam21ConvertError):
        return replace(item, error=one_line(error.message), hint=error.hint)
    if isinstance(error, OSError):  # the operating system explains it
        text = f"{error.filename or item.output}: {error.strerror or error}"
        return replace(item, error=one_line(text))
    fault = f"{type(error).__name__}: {error}"
    return replace(
        item, error=one_line(fault), hint="this is a bug in sam21convert, please report it"
    )
