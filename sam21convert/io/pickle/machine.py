"""The stack machine that interprets pickles: its state, and the lookup and calling of globals.

It never imports or calls what a pickle names. To read a checkpoint, a global becomes a
:class:`Placeholder`, only a :class:`Known` one is evaluated, by a function of this package, and the
first fault ends the reading. To look for what a pickle would run, the same opcodes are interpreted,
but a global becomes a :class:`GlobalReference`, and a fault ends nothing: ``pickle.load`` has run
everything before it, and some unpicklers take for valid what the reader refuses. What none of them
can go on from, such as a stack without a value, does end it: else any data would name something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ...errors import RefusedError, UnreadableError
from ..source import Placeholder
from .references import COMPUTED, GlobalReference
from .shown import arguments_text
from .stream import REACH, CutShortError, Data, Stream

Args: TypeAlias = tuple[Any, ...]
Persistent: TypeAlias = Callable[[Any], Any]

MAX_OPCODES = 1_500_000  # opcodes, which take half a second; a training checkpoint has 130,000
_MAX_KEPT = 32 * 2**20  # bytes of the values, by the costs that opcodes.py states
_MAX_NAMES = 10_000
_MAX_NAME = 200  # characters kept of the name of a module or a global
_MOST_SHOWN = 3  # calls of a global whose arguments are kept
_SIZED = (str, bytes, bytearray, tuple, list, dict)
_NEVER = 1 << 64  # beyond every position
_OBJECT = Placeholder(COMPUTED)  # what a call makes, to a machine that looks for calls
_GETATTR = (("builtins", "getattr"), ("__builtin__", "getattr"))
_ORDERED_DICT = ("collections", "OrderedDict")
PARAMETERS, BUFFERS, MODULES = _OF_MODULE = ("_parameters", "_buffers", "_modules")  # of nn.Module
NOT_SAVED = "_non_persistent_buffers_set"
_RECONSTRUCTOR = ("copyreg._reconstructor", "copy_reg._reconstructor")
_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
_INSTANCE = 100  # bytes that one takes


@dataclass(frozen=True, slots=True, repr=False)
class Known(Placeholder):
    """A global that is evaluated when the pickle calls it.

    Attributes:
        build: Takes the arguments and returns what the call stands for.
        copies: Whether the result holds a copy of the arguments, so that repeated calls on the
            same data must be limited.
    """

    build: Callable[[Args], Any]
    copies: bool = False


@dataclass(slots=True, eq=False)
class Record:
    """An object of a class whose attributes are needed, read without importing the class.

    Attributes:
        as_key: Makes a dict key from the state, for objects that are used as keys; or None.
        state: What the pickle sets as the state of the object, usually a dict of attributes.
    """

    as_key: Callable[[Any], Any] | None = None
    state: Any = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instance(Placeholder):
    """Stands for an object that a pickle makes with a class that is not known, one for each object.

    Attributes:
        state: What holds the tensors, if the pickle gives the object the attributes of an
            ``nn.Module``, each as in the pickle; else empty. All other attributes are dropped.
    """

    state: dict[str, Any] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Without tensors, one object of a class is as good as another."""
        if not isinstance(other, Placeholder) or isinstance(other, Known):
            return NotImplemented
        return self is other or (not self.state and self.name == other.name)

    def __hash__(self) -> int:
        return hash(self.name)

    def build(self, state: Any) -> None:
        """Keep the attributes of a module that hold its tensors.

        Args:
            state: What the pickle sets as the state of the object.
        """
        if isinstance(state, dict) and all(isinstance(state.get(k), dict) for k in _OF_MODULE):
            self.state.update({k: state[k] for k in (*_OF_MODULE, NOT_SAVED) if k in state})


class OddText(str):
    """A text that programs may read differently, as it is not written the way ``pickle`` does."""

    __slots__ = ()


class Stop(Exception):  # noqa: N818
    """Raised by the handler of the STOP opcode, which ends the pickle."""


class Machine(Stream):
    """The state of a pickle that is being interpreted.

    As in CPython's unpickler, MARK puts the current stack aside and begins an empty one.

    Args:
        data: The file that holds the pickle, or its bytes.
        start: Position at which it begins.
        stop: Position behind the last byte that may belong to it; None for the end of the data.
        known: Values of globals by full name; None to look for globals instead of reading.
        persistent: Resolves persistent ids; None if there must be none.

    Attributes:
        stack: The values above the last MARK.
        aside: The stacks below each MARK.
        memo: The memo, by number.
        references: The globals found, by module and name, in the order in which they come.
        placeholders: Full names of the globals that were read as placeholders.
        doubts: Why another program may read the pickle differently from here on.
        escaped: What functions and objects were given, which may call whatever is in it.
        kept: Bytes of the values so far, about.
        opcodes: Number of opcodes so far.
        frame_end: Position at which the present frame ends.
    """

    def __init__(
        self,
        data: Data,
        start: int = 0,
        stop: int | None = None,
        known: Mapping[str, Any] | None = None,
        persistent: Persistent | None = None,
    ) -> None:
        super().__init__(data, start, stop)
        self.opened = start  # position of the current opcode
        self.known: Mapping[str, Any] = known or {}
        self.reads = known is not None
        self.persistent = persistent
        self.stack: list[Any] = []
        self.aside: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.references: dict[tuple[str, str], GlobalReference] = {}
        self.written: dict[bytes, Any] = {}  # what each global was found as, by the lines naming it
        self.placeholders: dict[str, Placeholder] = {}
        self.doubts: dict[str, None] = {}
        self.escaped: list[Any] = []
        self.kept = self.opcodes = 0
        self.frame_end = _NEVER
        self.copied = 0  # items and bytes that calls have copied so far

    def run(
        self,
        handlers: Sequence[Callable[[Machine], object]],
        costs: Sequence[int],
        most: int = MAX_OPCODES,
    ) -> Any:
        """Interpret opcodes until the pickle ends.

        Args:
            handlers: Handler of each opcode, indexed by its byte.
            costs: Bytes that each opcode may keep, apart from text and data.
            most: How many opcodes there may be; never more than ``MAX_OPCODES``.

        Returns:
            The value on top of the stack at the end.

        Raises:
            CutShortError: If the data ends before the pickle does.
            RefusedError: If there are too many opcodes, or their values take too much memory.
        """
        try:
            for self.opcodes in range(min(most, MAX_OPCODES)):
                self.opened = position = self.position
                here = position - self.base
                if here > self.ahead:
                    here = self.arrive()
                self.position = position + 1
                code = self.window[here]
                self.kept = kept = self.kept + costs[code]
                if kept > _MAX_KEPT:
                    raise RefusedError(
                        f"the values in the pickle take more than {_MAX_KEPT >> 20} MiB"
                    )
                handlers[code](self)
            raise RefusedError(f"the pickle has more than {min(most, MAX_OPCODES):,} opcodes")
        except Stop:
            return self.pop()

    def arrive(self) -> int:
        """Leave a frame that ends at the position, and move the window to it.

        Returns:
            The index of the next opcode in the window.

        Raises:
            CutShortError: If the data ends before the pickle does.
            UnreadableError: If the last opcode crossed the end of a frame, and the pickle is read.
        """
        if self.position >= self.frame_end:
            self.end_frame()
        if not self.refill():
            raise CutShortError("the data ends before the pickle does")
        self.ahead = min(len(self.window) - REACH, self.frame_end - self.base - 1)
        return self.position - self.base

    def begin_frame(self, length: int) -> None:
        """Note where a frame ends. Frames have no effect, if they end between two opcodes.

        CPython reads frames in three ways, by file or bytes and in C or Python, which differ when
        anything crosses the end of a frame.

        Args:
            length: Number of bytes in the frame.

        Raises:
            UnreadableError: If the frame is within another, and the pickle is read.
        """
        if self.frame_end != _NEVER:
            self.doubt("a frame begins within another")
        self.frame_end = self.position + length
        self.ahead = -1  # has to be found anew

    def end_frame(self) -> None:
        """Leave a frame, between two opcodes.

        Raises:
            UnreadableError: If the last opcode crossed its end, and the pickle is read.
        """
        if self.position > self.frame_end:
            self.doubt("a frame ends within a value")
        self.frame_end = _NEVER

    def end_frame_early(self) -> None:
        """Note that a pickle that was looked through has ended within a frame.

        What seemed to reach beyond the end of the data may cross the end of the frame alone.
        """
        if self.frame_end <= self.stop:
            self.doubt("a frame ends within a value")

    def fault(self, message: str, kind: type[UnreadableError] = UnreadableError) -> None:
        """Report that the pickle is broken, or is not written the way ``pickle`` does.

        Args:
            message: What is wrong.
            kind: Class of the error.

        Raises:
            UnreadableError: If the pickle is read. If it is only looked through, nothing happens.
        """
        if self.reads:
            raise kind(message)

    def doubt(self, message: str) -> None:
        """Report something that another program may read differently.

        Args:
            message: What it is.

        Raises:
            UnreadableError: If the pickle is read.
        """
        self.fault(message)
        self.doubts[message] = None

    def push(self, value: Any) -> None:
        """Put a value on the stack, and count it if it is a global.

        Args:
            value: The value.
        """
        if type(value) is GlobalReference:
            value.count += 1
        self.stack.append(value)

    def pop(self) -> Any:
        """Remove the value on top of the stack.

        Returns:
            That value.

        Raises:
            UnreadableError: If the stack is empty.
        """
        if self.stack:
            return self.stack.pop()
        raise UnreadableError("there is no value on the stack")

    def top(self) -> Any:
        """Look at the value on top of the stack.

        Returns:
            That value, which stays there.

        Raises:
            UnreadableError: If the stack is empty.
        """
        if self.stack:
            return self.stack[-1]
        raise UnreadableError("there is no value on the stack")

    def pop_mark(self) -> list[Any]:
        """Remove the last MARK and everything above it.

        Returns:
            The values above the MARK, from bottom to top.

        Raises:
            UnreadableError: If there is no MARK.
        """
        if not self.aside:
            raise UnreadableError("there is no MARK on the stack")
        items, self.stack = self.stack, self.aside.pop()
        return items

    def recall(self, number: int) -> None:
        """Put an entry of the memo on the stack.

        Args:
            number: Number of the entry.

        Raises:
            UnreadableError: If the entry was never set.
        """
        value = self.memo.get(number, self)
        if value is self:
            self.fault("a memo entry is used that was never set")
            value = _OBJECT
        if type(value) is GlobalReference:
            value.count += 1
        self.stack.append(value)

    def placeholder(self, name: str) -> Placeholder:
        """Get the placeholder for a global, and list it in ``placeholders``.

        Args:
            name: Full name of the global; unprintable characters are escaped.

        Returns:
            The placeholder, the same one for the same name.
        """
        if not name.isprintable():
            name = ascii(name)[1:-1]
        return self.placeholders.setdefault(name, Placeholder(name))

    def find(self, module: Any, name: Any) -> Any:
        """Look up a global, and add it to ``references``.

        Args:
            module: Name of its module; anything but a text is computed by the pickle.
            name: Name within the module; may be dotted.

        Returns:
            Its reference if the pickle is only looked through. Otherwise its value if it is known,
            else a placeholder.

        Raises:
            UnreadableError: If a name is not a text, and the pickle is read.
            RefusedError: If there are too many globals.
        """
        computed = type(module) is not str or type(name) is not str
        if computed:
            self.fault("the name of a global is not a string, or not one that can be a name")
            module, name = (str(x) if isinstance(x, str) else COMPUTED for x in (module, name))
        reference = self.references.get((module, name))
        if reference is None:
            if len(self.references) >= _MAX_NAMES:
                raise RefusedError(f"the pickle names more than {_MAX_NAMES:,} globals")
            reference = GlobalReference(module, name, self.opened)
            self.references[module, name] = reference
        reference.computed |= computed
        if not self.reads:
            return reference
        module = "builtins" if module == "__builtin__" else module  # its name in Python 2
        full = f"{module[:_MAX_NAME]}.{name[:_MAX_NAME]}".lstrip(".")
        return self.known[full] if full in self.known else self.placeholder(full)

    def call(self, function: Any, args: Any) -> Any:
        """Evaluate the call of a global.

        Args:
            function: What is called: a value from :meth:`find`.
            args: Its arguments as a tuple.

        Returns:
            The result for a :class:`Known` global; for any other an :class:`Instance`.

        Raises:
            UnreadableError: If ``function`` is not a global, or ``args`` not a tuple.
            RefusedError: If calls copy the same data over and over.
        """
        if not self.reads:
            return self._note_call(function, args)
        if not isinstance(function, Placeholder):
            raise UnreadableError(f"a {type(function).__name__} is called like a function")
        if not isinstance(function, Known):
            return self._instance(function, args)
        if type(args) is not tuple:
            raise UnreadableError(f"the arguments of {function.name} are not a tuple")
        if args and function.copies:
            self.copied += sum(len(arg) for arg in args if isinstance(arg, _SIZED))
            # All arguments are part of the pickle, so only repeated use can exceed its size.
            if self.copied > 2 * (self.position - self.start) + 1000:
                raise RefusedError("the pickle copies the same data over and over")
        result = function.build(args)
        return self.placeholder(result.name) if type(result) is Placeholder else result

    def _instance(self, function: Placeholder, args: Any) -> Instance:
        """What stands for an object of an unknown class, or for the result of a function."""
        self.kept += _INSTANCE
        match args:
            case (Placeholder(name=name), *_) if function.name in _RECONSTRUCTOR:
                return Instance(name)  # protocols 0 and 1
            case (Instance() as inner, *_) if function.name == _COMPILED:
                made = Instance(function.name)
                made.build({PARAMETERS: {}, BUFFERS: {}, MODULES: {"_orig_mod": inner}})
                return made
        return Instance(function.name)

    def _note_call(self, function: Any, args: Any) -> Any:
        """Note a call that is looked for, and give what stands for its result."""
        if type(function) is GlobalReference:
            name = (function.module, function.name)
            if name in _GETATTR and (part := self._part_of_class(args)) is not None:
                function.naming += 1
                return part
            function.called = True
            function.calls += 1
            if len(function.arguments) < _MOST_SHOWN:
                function.arguments.append(arguments_text(args))
            if name == _ORDERED_DICT and args == ():
                return {}  # holds its items, like a dict, and calls none of them
        self.escaped.append(args)
        return _OBJECT

    def _part_of_class(self, args: Any) -> GlobalReference | None:
        """What is in a class; protocols 0 to 3 write it as a call of ``getattr``."""
        match args:
            case (GlobalReference(module=str(module), name=str(outer)), str(name)) if (
                type(name) is str and name.isidentifier()
            ):
                found: GlobalReference = self.find(module, f"{outer}.{name}")
                return found
        return None

    def mark_escaped(self) -> None:
        """Mark every global in ``escaped`` as called.

        A function may call its arguments, their attributes, and what is put into them later.
        """
        if not self.references:
            return
        waiting: list[Any] = [self.escaped]
        seen: set[int] = set()
        while waiting:
            part = waiting.pop()
            if type(part) is GlobalReference:
                part.called = True
            elif part and isinstance(part, (tuple, list, dict, set)) and id(part) not in seen:
                seen.add(id(part))
                waiting += part
                if isinstance(part, dict):
                    waiting += part.values()

    def give(self, target: Any, value: Any) -> None:
        """Note what is put into something that is no container of the pickle's own.

        Args:
            target: The global or object.
            value: Its items, or what it is given as its state.
        """
        if type(target) is GlobalReference:
            target.changed = True
        if not self.reads:
            self.escaped.append(value)
