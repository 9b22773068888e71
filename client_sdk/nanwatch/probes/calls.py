"""Sees calls of the user's root modules from outside, and tells the probes that listen.

`nn.Module.__call__` asks its instance for `_compiled_call_impl` before it does anything else. A
data descriptor of that name on the class of a root answers for the watched instances alone:
nothing is stored on a module, so pickling, copying and `torch.save` know nothing of us, and Dynamo,
which seldom asks and then hears nothing of us, compiles what it would have compiled. Why so:
docs/decisions/0021.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from nanwatch.guard import GUARD
from nanwatch.probes import discovery
from nanwatch.probes.attempts import USER_SKIPPED
from nanwatch.probes.modules import candidates, unwrapped, witness_of
from nanwatch.probes.probe import Probe
from nanwatch.probes.tensors import capturing

if TYPE_CHECKING:
    from nanwatch.probes.attempts import Attempt, Backward
    from nanwatch.probes.observer import Observer
    from nanwatch.probes.registry import Known

ATTRIBUTE = "_compiled_call_impl"

WATCHED_MOST = 256

T = TypeVar("T")

_CALLS: weakref.WeakKeyDictionary[Observer, Calls] = weakref.WeakKeyDictionary()


def calls_of(observer: Observer) -> Calls:
    """The calls of this run. Raises KeyError if they could not be made."""
    return _CALLS[observer]


class Listener(Probe):
    """A probe that wants to know of calls. Methods run on the training thread, guarded."""

    def found(self, watches: Sequence[Watch]) -> None:
        """Modules were (again) found: these are watched from now on."""

    def wants(self, watch: Watch) -> bool:
        """True if calls of this module matter. Asked after `found`."""
        return True

    def sampling(self, watch: Watch) -> Any | None:
        """A context for the call that begins now, or None. Torch's grad mode is the user's."""
        return None

    def called(self, watch: Watch, output: Any, with_grad: bool) -> None:
        """The module was called and returned; `with_grad`: gradients were enabled."""


@dataclass(slots=True, eq=False)
class Watch:
    """One module whose calls are seen."""

    name: str
    """Variable or attribute that holds it."""
    ref: weakref.ref[Any]
    owners: frozenset[int]
    """Numbers of the optimizers that own some of its parameters."""
    signature: tuple[Any, ...]
    """Names and shapes of its parameters: target copies have the same."""
    parent: weakref.ref[Any] | None = None
    """The agent it is a child of."""
    witness: tuple[weakref.ref[Any], str, int] | None = None
    """(module, name, id) of one parameter: others stand there while someone calls it as a
    function with parameters of his own."""
    listeners: list[Listener] = field(default_factory=list)
    """Those that want to know of its calls…"""
    samplers: list[Listener] = field(default_factory=list)
    """…and those that may want to look inside one."""

    @property
    def class_name(self) -> str:
        """Class of what a wrapper (`torch.compile`, DDP) holds."""
        return type(unwrapped(self.ref())).__name__

    def is_itself(self) -> bool:
        """False while foreign parameters are put in its place."""
        if self.witness is None:
            return True
        module, name, number = self.witness
        holder = module()
        return holder is not None and id(holder._parameters.get(name)) == number


class Door:
    """Stands on a class in the place of `_compiled_call_impl`; watched instances go through us."""

    __slots__ = ("_compiling", "_seen", "_watches", "before")

    def __init__(self, watches: dict[int, Watch], seen: Callable[..., Any], before: Any) -> None:
        from torch.compiler import is_dynamo_compiling

        self._watches = watches
        self._seen = seen
        self._compiling: Callable[[], bool] = is_dynamo_compiling
        self.before: Any = before
        """Another run's door on the same class."""

    def __get__(self, module: Any, owner: Any = None) -> Any:
        if module is None:
            return None
        # Dynamo does ask where something else has replaced `nn.Module.__call__`, and takes us in.
        if self._compiling():
            return module.__dict__.get(ATTRIBUTE)
        watch = self._watches.get(id(module))
        if watch is None:
            before = self.before
            if before is None:
                return module.__dict__.get(ATTRIBUTE)
            return before.__get__(module, owner)
        return partial(self._seen, watch, module)

    def __set__(self, module: Any, value: Any) -> None:
        module.__dict__[ATTRIBUTE] = value

    def __delete__(self, module: Any) -> None:
        module.__dict__.pop(ATTRIBUTE, None)

    def __reduce__(self) -> tuple[Any, ...]:
        # Classes of `__main__` are pickled by value by cloudpickle: there it is None again.
        return type(None), ()


class Calls(Probe):
    """Finds the modules to watch, and passes their calls on."""

    name: ClassVar[str] = "calls"

    def __init__(self, observer: Observer) -> None:
        super().__init__(observer)
        _CALLS[observer] = self
        self.watches: dict[int, Watch] = {}
        """`id(module)` → what is known of it. Shared with the doors."""
        self.depth = 0
        self.in_backward = False
        self.in_step = False
        self.before_call: Callable[[Watch], None] | None = None
        """Told of every outermost call before it runs; may raise what a command raised."""
        self._doors: dict[type, Door] = {}
        self._callback: Callable[[], Any] | None = None
        self._elsewhere: tuple[Callable[[], Any], ...] = ()
        """True while torch traces, transforms or captures."""

    def install(self) -> None:
        """Learn how to stay out of Dynamo's sight; without that nothing is installed."""
        import torch

        if ATTRIBUTE not in torch.nn.Module.__dict__:
            return
        codes = (Door.__get__.__code__, Calls._seen.__code__)
        self._callback = hidden_from_dynamo(codes)
        native: Any = torch._C
        self._elsewhere = (native._get_tracing_state, native._functorch.peek_interpreter_stack)
        if torch.backends.cuda.is_built():
            self._elsewhere += (capturing,)

    def remove(self) -> None:
        """Take the doors off their classes."""
        for kind, door in self._doors.items():
            # Another run's door may stand on top of ours by now: then leave it, ours sleeps.
            if kind.__dict__.get(ATTRIBUTE) is door:
                if door.before is None:
                    delattr(kind, ATTRIBUTE)
                else:
                    setattr(kind, ATTRIBUTE, door.before)
        self._doors.clear()
        self.watches.clear()
        _CALLS.pop(self.observer, None)  # a value that holds its key would keep the run for good

    def coverage(self) -> str:
        """Only worth a word where it cannot work."""
        return "" if self._callback is not None else "off: unknown version of torch"

    # --- which modules ---------------------------------------------------------------------------

    def named(self) -> None:
        """Watch the roots that an optimizer trains, their copies, and the parts of agents."""
        if self._callback is None:
            return
        registry = self.observer.registry
        owner_of = registry.owner_of()
        found = [
            self._watch_of(name, module, owner_of, parent)
            for name, module, parent in candidates(registry.roots, owner_of)
        ]
        trained = {watch.signature for watch in found if watch.owners}
        kept = [watch for watch in found if watch.owners or watch.signature in trained]
        self.watches.clear()
        for watch in kept[:WATCHED_MOST]:
            module = watch.ref()
            if module is not None:
                self.watches[id(module)] = watch
                self._put_door(type(module))
        now = tuple(self.watches.values())
        listeners = [one for one in self.observer.probes.active if isinstance(one, Listener)]
        for listener in listeners:
            listener.found(now)
        for watch in now:
            wanting = [one for one in listeners if one.wants(watch)]
            watch.listeners = [one for one in wanting if _does(one, "called")]
            watch.samplers = [one for one in wanting if _does(one, "sampling")]

    def _watch_of(
        self, name: str, module: Any, owner_of: dict[int, int], parent: Any | None
    ) -> Watch:
        key, watches = id(module), self.watches

        def forget(ref: Any) -> None:
            watch = watches.get(key)
            if watch is not None and watch.ref is ref:
                del watches[key]

        from torch.nn.parameter import is_lazy

        owners: set[int] = set()
        signature: list[Any] = []
        for parameter_name, parameter in module.named_parameters():
            shape = () if is_lazy(parameter) else tuple(parameter.shape)
            signature.append((discovery.clean(parameter_name), shape))
            if id(parameter) in owner_of:
                owners.add(owner_of[id(parameter)])
        return Watch(
            name=name,
            ref=weakref.ref(module, forget),
            owners=frozenset(owners),
            signature=tuple(signature),
            parent=weakref.ref(parent) if parent is not None else None,
            witness=witness_of(module),
        )

    def _put_door(self, kind: type) -> None:
        if kind in self._doors:
            return
        before = kind.__dict__.get(ATTRIBUTE)
        door = Door(self.watches, self._seen, before if isinstance(before, Door) else None)
        setattr(kind, ATTRIBUTE, door)
        self._doors[kind] = door

    # --- the call --------------------------------------------------------------------------------

    def _seen(self, watch: Watch, module: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The user's call, once, with its result and its exception untouched."""
        inner = module.__dict__.get(ATTRIBUTE) or module._call_impl
        if self._callback() is not None:  # type: ignore[misc]
            return inner(*args, **kwargs)  # compiled code runs: we are not here
        if not self._here(watch, module):
            return inner(*args, **kwargs)
        return self._told(watch, inner, args, kwargs)

    def _told(self, watch: Watch, inner: Any, args: Any, kwargs: Any) -> Any:
        started = time.perf_counter()
        if self.depth == 0 and self.before_call is not None:
            self.before_call(watch)
        context = self._sampling(watch)
        spent = time.perf_counter() - started
        self.depth += 1
        try:
            if context is None:
                result = inner(*args, **kwargs)
            else:
                with context:
                    result = inner(*args, **kwargs)
        finally:
            self.depth -= 1
        started = time.perf_counter()
        self._tell(watch, result)
        self.observer.overhead.spent(spent + time.perf_counter() - started)
        return result

    def _here(self, watch: Watch, module: Any) -> bool:
        """False where nobody trains: other threads, tracing, transforms, recomputation."""
        observer = self.observer
        if self.in_backward or not observer.enabled or observer.thread_id != get_ident():
            return False
        for question in self._elsewhere:
            if question():
                return False
        return watch.ref() is module and watch.is_itself()

    def _sampling(self, watch: Watch) -> Any | None:
        for listener in watch.samplers:
            try:
                context = listener.sampling(watch)
            except Exception as error:
                GUARD.note(f"probe {listener.name}", error)
                watch.samplers = [one for one in watch.samplers if one is not listener]
                continue
            if context is not None:
                return context
        return None

    def _tell(self, watch: Watch, result: Any) -> None:
        if not watch.listeners:
            return
        import torch

        with_grad = torch.is_grad_enabled()
        for listener in watch.listeners:
            try:
                listener.called(watch, result, with_grad)
            except Exception as error:
                GUARD.note(f"probe {listener.name}", error)
                watch.listeners = [one for one in watch.listeners if one is not listener]

    # --- where the training stands ---------------------------------------------------------------

    def before_backward(self, backward: Backward) -> None:
        """From here on calls are recomputation (checkpointing)."""
        self.in_backward = True

    def after_backward(self, backward: Backward) -> None:
        """Calls are the user's again."""
        self.in_backward = False
        self.depth = 0

    def before_step(self, known: Known) -> None:
        """Closures may call modules."""
        self.in_backward, self.in_step = False, True

    def after_step(self, known: Known) -> None:
        """The step is over."""
        self.in_step = False

    def closed(self, known: Known, attempt: Attempt) -> None:
        """A backward pass or a step that raised never said that it ended."""
        self.in_backward = self.in_step = False


class Ledger(Generic[T]):
    """Things seen in calls, kept until it is known which attempt they belong to.

    A backward pass takes what was seen since the one before, as far as it reaches the owners.
    """

    OPEN_MOST = 64
    WAITING_MOST = 256

    def __init__(self) -> None:
        self._open: list[tuple[frozenset[int] | None, T]] = []
        self._taken: dict[int, tuple[Backward, list[T]]] = {}

    def note(self, thing: T, owners: frozenset[int] | None = None) -> None:
        """Seen just now; `owners`: only a backward that reaches one of them may take it."""
        self._open.append((owners, thing))
        del self._open[: -self.OPEN_MOST]

    def after_backward(self, backward: Backward) -> None:
        """It takes what is open for it; what nobody took within the next pass is forgotten."""
        if not self._open:
            return
        mine: list[T] = []
        rest: list[tuple[frozenset[int] | None, T]] = []
        for owners, thing in self._open:
            if owners is None or owners & backward.reached:
                mine.append(thing)
            else:
                rest.append((owners, thing))
        self._open = rest
        if mine:
            self._taken[id(backward)] = (backward, mine)
            while len(self._taken) > self.WAITING_MOST:
                self._taken.pop(next(iter(self._taken)))

    def closed(self, attempt: Attempt) -> list[T]:
        """What belongs to the attempt, in order: of a batch that was thrown away what is open."""
        if not self._open and not self._taken:
            return []
        if attempt.outcome == USER_SKIPPED and not attempt.backwards:
            number, left = attempt.optimizer, self._open
            self._open = [one for one in left if one[0] is not None and number not in one[0]]
            return [thing for owners, thing in left if owners is None or number in owners]
        found: list[T] = []
        for backward in attempt.backwards:
            _, things = self._taken.pop(id(backward), (None, []))
            found += things
        return found


def _does(listener: Listener, method: str) -> bool:
    return getattr(type(listener), method) is not getattr(Listener, method)


def hidden_from_dynamo(codes: tuple[Any, ...]) -> Callable[[], Any] | None:
    """Keep Dynamo from compiling these functions; the question whether it is at work here.

    None if this version of torch offers neither.
    """
    import torch

    native: Any = torch._C
    native = native._dynamo.eval_frame
    question = getattr(native, "get_eval_frame_callback", None)
    if question is None:
        return None
    for code in codes:
        if hasattr(native, "set_code_exec_strategy"):
            actions = native._FrameAction
            strategy = native._FrameExecStrategy(actions.SKIP, actions.DEFAULT)
            native.set_code_exec_strategy(code, strategy)
        elif hasattr(native, "skip_code"):
            native.skip_code(code)
        else:
            return None
    return question
