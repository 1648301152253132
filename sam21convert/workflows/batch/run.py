"""One run of a batch: its conversions, several at a time, each recorded as it begins and ends.

On threads: the bytes move in the kernel and checksums without the interpreter's lock, so that
processes gain nothing, and a batch that is killed leaves none behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...conversion.plan import Plan, make_plan
from ...conversion.report import Conversion, report
from ...conversion.write import carry_out
from ...dialects import BY_NAME
from ...errors import MismatchError, Sam21ConvertError
from ...hub.resolve import locate
from ...io.output.atomic import refuse_existing
from ...io.source import CONFIG, FOLDERS
from ...report import Progress
from .journal import Journal, JournalRecord, alone_in, stamps
from .manifest import identity
from .report import Item


@dataclass(frozen=True)
class Job:
    """A source, the name of its output with its suffix, and the options of its conversion."""

    source: str
    output: str
    suffix: str
    options: Mapping[str, Any]


class _Stopped(Exception):  # noqa: N818 - not an error
    """The user has interrupted the batch."""


class _Interrupt(Progress):
    """Ends a conversion, wherever it has got to, when the batch is stopped."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop

    def advance(self, count: int, doing: str = "") -> None:
        """Raise :class:`_Stopped` once the batch is stopped."""
        if self.stop.is_set():
            raise _Stopped


class Run:
    """One run of a batch into the folder ``out``; the arguments are those of ``batch``."""

    def __init__(
        self,
        out: Path,
        jobs: Sequence[Job],
        *,
        overwrite: bool,
        verify: bool,
        parity: bool,
        progress: Progress,
    ) -> None:
        self.out = out
        self.jobs = jobs
        self.journal = Journal(out)
        self.overwrite = overwrite
        self.verify = verify
        self.parity = parity
        self.progress = progress
        self.stop = threading.Event()
        self.telling, self.locating, self.comparing = (threading.Lock() for _ in range(3))

    def all(self, workers: int) -> list[Item]:
        """Convert, several at a time. What is under way when this is interrupted leaves nothing."""
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
        """Convert one, unless that is done."""
        began = time.monotonic()
        before = self.journal.get(job.output)
        item = Item(job.source, self.out / job.output)
        try:
            with self.telling:
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
        return replace(item, seconds=time.monotonic() - began)

    def preview(self) -> list[Item]:
        """What :meth:`all` would do, by all that headers tell."""
        return [self._look(job) for job in self.jobs]

    def _look(self, job: Job) -> Item:
        before = self.journal.get(job.output)
        item = Item(job.source, self.out / job.output)
        try:
            if self._done(job, before):
                assert before is not None
                return replace(item, outcome="skipped", **before.facts)
            with TemporaryDirectory() as scratch:
                plan = self._plan(job, Path(scratch), overwrite=False)
                place = self.out / plan.destination.relative_to(scratch)
                if place.parent.is_dir():
                    refuse_existing(place, overwrite=self._may_replace(before))
                facts = _facts(report(plan, dry_run=True, verified=False, hashes=False))
            return replace(item, outcome="planned", **facts)
        except Exception as error:
            return _failed(item, error)

    def _done(self, job: Job, before: JournalRecord | None) -> bool:
        """Whether the output is there, and would come out the same.

        Raises :class:`MismatchError` where it would not and may not be replaced.
        """
        if before is None or before.state != "converted":
            return False
        now = stamps((self.out / name for name in before.written), self.out)
        path = self._located(job.source).absolute()
        why = None
        if any(now[name] != before.written[name] for name in now):
            why = "was changed since it was written"
        elif before.source != identity(job.source):
            why = f"was made of {before.source}"
        elif before.options != self._options(job):
            why = "was made with other options"
        elif str(path) != before.path or stamps(map(Path, before.read)) != before.read:
            why = f"was made of {job.source} as it was before"
        if why is not None and not self.overwrite:
            raise MismatchError(
                f"{self.out / job.output}: {why}", hint="`overwrite=True` replaces it"
            )
        return why is None and now == before.written

    def _convert(self, job: Job, before: JournalRecord | None) -> Conversion:
        """Write the output, and record first that it is begun and then what it is."""
        overwrite = self._may_replace(before)
        folder = self.out / job.output
        within = _goes_by_name(job.options.get("to"))
        try:
            if within:
                folder.mkdir(exist_ok=True)
            plan = self._plan(job, self.out, overwrite=overwrite)
            record = JournalRecord(
                source=identity(job.source),
                suffix=job.suffix,
                state="started",
                path=str(plan.source.source.path.absolute()),
                options=self._options(job),
                read=stamps(_files(plan, job.options.get("config"))),
            )
            self.journal.put(job.output, record)
            done = self._carry_out(plan, overwrite)
        finally:
            if within:
                with suppress(OSError):  # it holds something
                    folder.rmdir()
        home = plan.destination if plan.container in FOLDERS else plan.destination.parent
        written = stamps((home / name for name in done.files), self.out)
        record = replace(record, state="converted", written=written, facts=_facts(done))
        self.journal.put(job.output, record)
        return done

    def _plan(self, job: Job, home: Path, *, overwrite: bool) -> Plan:
        options = dict(job.options)
        if "base" in options:
            options["base"] = self._located(options["base"])
        source = self._located(job.source)
        return make_plan(source, home / job.output, overwrite=overwrite, **options)

    def _carry_out(self, plan: Plan, overwrite: bool) -> Conversion:
        interrupt = _Interrupt(self.stop)
        interrupt.advance(0)
        if self.parity:
            from ..convert_and_compare import convert_in_parity

            convert_in_parity(
                plan,
                overwrite=overwrite,
                verify=self.verify,
                hashes=False,
                progress=interrupt,
                alone=self.comparing,  # torch has all cores, and settings that all threads share
            )
        else:
            carry_out(plan, overwrite=overwrite, verify=self.verify, progress=interrupt)
        return report(plan, dry_run=False, verified=self.verify, hashes=False)

    def _may_replace(self, before: JournalRecord | None) -> bool:
        """Whether what stands in the place of the output is the batch's own to replace."""
        return self.overwrite or (before is not None and before.state != "failed")

    def _located(self, source: str) -> Path:
        with self.locating:  # two may want the same download
            return locate(source)

    def _options(self, job: Job) -> dict[str, Any]:
        """What the output depends on, beside the files that are read."""
        return {**job.options, "parity": self.parity}

    def _failure(self, job: Job, before: JournalRecord | None, error: str | None) -> JournalRecord:
        """What to keep of a failure: an earlier output stays what it is."""
        if before is not None and before.state != "failed":
            return replace(before, error=error)
        return JournalRecord(identity(job.source), job.suffix, "failed", error=error)


def _goes_by_name(to: str | None) -> bool:
    """Whether a program knows the files of a dialect by name: each has a folder of its own."""
    return to is not None and bool(BY_NAME[to].file)


def _files(plan: Plan, config: str | None) -> Iterator[Path]:
    """Everything that the output depends on."""
    if config is not None:
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
    }


def _failed(item: Item, error: Exception) -> Item:
    if isinstance(error, Sam21ConvertError):
        return replace(item, error=error.message, hint=error.hint)
    if isinstance(error, OSError):  # the system's own words say it
        return replace(item, error=f"{error.filename or item.output}: {error.strerror or error}")
    fault = f"{type(error).__name__}: {error}"
    return replace(item, error=fault, hint="this is a fault of sam21convert, please report it")
