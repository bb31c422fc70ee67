"""Name the plugin's own line if a plugin raises or hangs in a suite.

Plugins run inside the gateway. Without this module, a bug in one shows as a long traceback, as an
event without an outcome, or as a test that never ends.
"""

import asyncio
import functools
import inspect
import linecache
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Final, NamedTuple, NoReturn

import pytest

from gateway.errors import Rejected, Unrenderable
from gateway.event import Event, as_json
from gateway.http import Request
from gateway.plugin.sandbox import Sandbox
from gateway.plugin.vendor import Input, Output

LIMIT: Final = 5.0
"""Seconds that one call of a plugin may take; a real one takes less than a millisecond."""
SHOWN: Final = 500
"""Characters that a message shows of an argument."""
METHODS: Final[Mapping[type, tuple[str, ...]]] = {
    Input: (
        "credential", "relayed_credential", "needs_secret", "static_response", "public_file",
        "decode", "read", "parse", "accept", "refuse",
    ),
    Output: (
        "headers", "envelope", "select", "render", "request", "merge", "forward",
        "credential_fields", "with_credential", "losses", "verdict", "refused_events",
    ),
    Sandbox: ("respond", "failure"),
}  # fmt: skip
"""The methods that the gateway calls, by base class."""
_hung: dict[type, str] = {}
"""Classes that hung once, with the message; they are not called again."""
_busy = threading.local()


class PluginStopped(KeyboardInterrupt):
    """A plugin hung, or failed inside a running gateway: the test ends.

    It is not an `Exception`, so neither the gateway nor hypothesis continues after it.
    """


class PluginSuite:
    """Base of the suites: if a plugin fails, the message begins with the plugin's own line."""

    input: ClassVar[Any] = None
    output: ClassVar[Any] = None
    sandbox: ClassVar[Any] = None

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test once per fact; each suite adds its own."""

    def halves(self) -> list[Input | Output | Sandbox]:
        """Return the tested parts of the plugin."""
        found = (self.input, self.output, self.sandbox)
        return [half for half in found if half is not None]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Watch the plugin in each test that *cls* defines."""
        super().__init_subclass__(**kwargs)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and _is_plain_function(test):
                setattr(cls, name, _watched(test))


def _is_plain_function(value: object) -> bool:
    return inspect.isfunction(value) and not inspect.iscoroutinefunction(value)


def _watched(test: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        with watch(*self.halves()):
            test(self, *args, **kwargs)

    return run


@contextmanager
def watch(*halves: Input | Output | Sandbox) -> Iterator[None]:
    """Fail the test with the plugin's own line if one of *halves* raises or hangs.

    `Rejected` and `Unrenderable` are allowed.
    """
    __tracebackhide__ = True
    undo: list[Callable[[], None]] = []
    for half in halves:
        undo += _watch_class(type(half))
    ours = _in_main_thread()
    before = signal.signal(signal.SIGALRM, _on_alarm) if ours else None
    try:
        yield
    except BaseException as error:
        message = _message_of(error)
        if not message:
            raise
        raise pytest.fail.Exception(message, pytrace=False) from None
    finally:
        if ours:
            signal.signal(signal.SIGALRM, before)
        for step in reversed(undo):
            step()


def _watch_class(half: type) -> Iterator[Callable[[], None]]:
    """Wrap the methods of *half*; yield functions that unwrap them."""
    for base, names in METHODS.items():
        if issubclass(half, base):
            for name in names:
                own = vars(half).get(name)
                setattr(half, name, _guarded(getattr(half, name), name))
                yield functools.partial(_restore, half, name, own)


def _restore(half: type, name: str, own: Any) -> None:
    if own is None:
        delattr(half, name)
    else:
        setattr(half, name, own)


def _guarded(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        if getattr(_busy, "inside", False):
            return method(self, *args, **kwargs)
        if type(self) in _hung:
            raise PluginStopped(_hung[type(self)])
        _busy.inside = True
        try:
            with _time_limit():
                return method(self, *args, **kwargs)
        except (Rejected, Unrenderable):
            raise
        except PluginStopped as error:
            _hung[type(self)] = _told(_Call(self, name, args), error, f"no end after {LIMIT:g} s")
            raise PluginStopped(_hung[type(self)]) from error
        except Exception as error:
            if asyncio._get_running_loop() is None:  # noqa: SLF001 - the one that looks at no process id
                raise
            raise PluginStopped(_told(_Call(self, name, args), error)) from error
        finally:
            _busy.inside = False

    return guarded


@contextmanager
def _time_limit() -> Iterator[None]:
    """End what runs inside after `LIMIT` seconds, in the main thread of a system with signals."""
    __tracebackhide__ = True
    if signal.getsignal(signal.SIGALRM) is not _on_alarm or not _in_main_thread():
        yield
        return
    left, interval = signal.setitimer(signal.ITIMER_REAL, LIMIT)
    try:
        yield
    finally:
        spent = LIMIT - signal.getitimer(signal.ITIMER_REAL)[0]
        signal.setitimer(signal.ITIMER_REAL, max(left - spent, 0.001) if left else 0, interval)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _on_alarm(_: int, __: FrameType | None) -> NoReturn:
    raise PluginStopped


class _Call(NamedTuple):
    """A call of a plugin."""

    half: Any
    method: str
    args: tuple[Any, ...]


def _message_of(error: BaseException) -> str:
    """Return what to say of *error*; nothing where no plugin raised it."""
    if isinstance(error, PluginStopped):
        return str(error)
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_message_of, error.exceptions)), "")
    if isinstance(error, (Rejected, Unrenderable)):
        return ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "guarded" and trace.tb_frame.f_globals is globals():
            found = trace.tb_frame.f_locals
            return _told(_Call(found["self"], found["name"], found["args"]), error)
        trace = trace.tb_next
    return ""


def _told(call: _Call, error: BaseException, what: str = "") -> str:
    """Return the plugin's lines, the innermost first, and the call that led there."""
    kind = type(call.half)
    what = what or f"{type(error).__name__}: {error}".rstrip(": ")
    own = list(_own_lines(error.__traceback__, kind))
    lines = own[::-1] or [f"{kind.__module__}: in {kind.__name__}.{call.method}"]
    first, mark, source = lines[0].partition("\n")
    said = ", ".join(map(_shown, call.args))
    below = [f"called from {line}" for line in lines[1:]]
    whole = f"in {kind.__name__}.{call.method}({said})"
    return "\n".join([f"{first}: {what}{mark}{source}", *below, whole])


def _shown(value: object) -> str:
    """Return an argument of a call, as short as it can be understood."""
    if isinstance(value, Request):
        said = f"{value.method} {value.url} {value.body!r}"
    elif isinstance(value, Event):
        said = repr(as_json(value))
    else:
        said = repr(value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}…"


def _own_lines(trace: TracebackType | None, kind: type) -> Iterator[str]:
    """Yield the lines of *trace* that stand in the folder of the plugin."""
    source = getattr(sys.modules.get(kind.__module__), "__file__", None)
    folder = Path(source).parent if source else None
    while trace is not None:
        path, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
        if folder is not None and folder in Path(path).parents:
            text = linecache.getline(path, line).strip()
            here = path.removeprefix(f"{Path.cwd()}/")
            yield f"{here}:{line} in {trace.tb_frame.f_code.co_name}\n    {text}"
        trace = trace.tb_next
