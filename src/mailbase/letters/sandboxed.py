"""The child of ``letters.sandbox``: reads a template and its values, writes what comes of them, until its parent is gone.

Memory is bounded by the kernel, time by an alarm that counts the processor's; either ends this process in the middle of a rendering.
"""

import importlib
import json
import resource
import signal
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

from minijinja import Environment, Markup, TemplateError

from mailbase.letters.sandbox import CPU_SECONDS, GROWN, HEADER, KEPT, KEPT_SOURCES, MEMORY
from mailbase.letters.templates import ENGINE_ERRORS, MAX_RENDERED

_STATM: Final = Path("/proc/self/statm")
_IDLE: Final = 512 * 1024 * 1024
"""Where the system does not tell what we hold already."""


def main() -> None:
    """Serve the parent."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kept = _Kept()
    makers: dict[str, object] = {}
    at_first = 0
    asked, said = sys.stdin.buffer, sys.stdout.buffer
    while len(header := asked.read(HEADER.size)) == HEADER.size:
        (length,) = HEADER.unpack(header)
        question = json.loads(asked.read(length))
        module = question["maker"].partition(":")[0]
        if module not in makers:  # what our own code takes is not the template's
            _limit(None)
            makers[module] = importlib.import_module(module)
            at_first = _held() or _IDLE
            _limit(at_first + MEMORY)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        answer = _answer(question, kept)
        if _held() > at_first + GROWN:
            answer["last"] = True
        body = json.dumps(answer).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        said.write(HEADER.pack(len(body)) + body)
        said.flush()


def _limit(memory: int | None) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if memory is None or (most != resource.RLIM_INFINITY and memory > most):
        memory = most
    resource.setrlimit(resource.RLIMIT_AS, (memory, most))


def _held() -> int:
    return int(_STATM.read_text().split()[0]) * resource.getpagesize() if _STATM.exists() else 0


class _Kept:
    """Templates that are compiled already, those used last."""

    def __init__(self) -> None:
        self._engines: OrderedDict[str, tuple[Environment, int]] = OrderedDict()
        self._bytes = 0

    def find(self, question: dict[str, Any]) -> Environment | None:
        key = question["key"]
        if key in self._engines:
            self._engines.move_to_end(key)
            return self._engines[key][0]
        source = question.get("source")
        if source is None:
            return None
        module, _, maker = question["maker"].partition(":")
        engine: Environment = getattr(sys.modules[module], maker)()
        engine.add_template(question["name"], source)
        self._engines[key] = (engine, len(source))
        self._bytes += len(source)
        while len(self._engines) > 1 and (len(self._engines) > KEPT or self._bytes > KEPT_SOURCES):
            _, (_, size) = self._engines.popitem(last=False)
            self._bytes -= size
        return engine


def _answer(question: dict[str, Any], kept: _Kept) -> dict[str, Any]:
    try:
        engine = kept.find(question)
        if engine is None:
            return {"unknown": True}
        if question["variables"] is None:
            return {"text": ""}
        values = question["variables"]
        values |= {name: Markup(values[name]) for name in question["safe"]}  # our own HTML
        text = engine.render_template(question["name"], **values)
    except MemoryError:
        raise SystemExit(1) from None
    except ENGINE_ERRORS as error:
        return _mistake(error)
    if len(text) > MAX_RENDERED:
        return _mistake(ValueError(f"this renders to more than {MAX_RENDERED // 1024} kB"))
    return {"text": text}


def _mistake(error: Exception) -> dict[str, Any]:
    if isinstance(error, TemplateError):
        return {
            "detail": error.detail or error.message,
            "line": error.line,
            "range": error.range,
            "kind": str(error.kind),
        }
    return {"detail": str(error)[:500], "line": None, "range": None, "kind": type(error).__name__}


if __name__ == "__main__":
    main()
