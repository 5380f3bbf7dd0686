"""What a person reads: one line a check, with its result and its figure."""

import os
import sys
import textwrap
import time

_CODES = {"ok": "32", "FAIL": "1;31", "skip": "33", "head": "1", "dim": "2"}


class Report:
    """Prints checks as they end and counts them."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.colour = self.stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def apart(self, stream):
        """An empty report that will be part of this one."""
        other = Report(stream)
        other.colour = self.colour
        return other

    def add(self, other):
        """Takes in a report that was kept apart in memory."""
        self.stream.write(other.stream.getvalue())
        self.stream.flush()
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures

    def paint(self, text, kind):
        """The text in the colour of `kind`, where the stream shows colours."""
        return f"\033[{_CODES[kind]}m{text}\033[0m" if self.colour else text

    def line(self, text=""):
        """Prints a line."""
        print(text, file=self.stream, flush=True)

    def heading(self, text, note=""):
        """Begins a section."""
        self.line()
        self.line(self.paint(text, "head") + (f"  {self.paint(note, 'dim')}" if note else ""))

    def block(self, text, rows=None, of=""):
        """Prints text indented; with `rows`, only so many lines and how many more (`of` what) there are."""
        lines = text.rstrip("\n").split("\n")
        for line in lines[:rows]:
            self.line(f"  {line.rstrip()}" if line else "")
        if rows is not None and len(lines) > rows:
            self.line(self.paint(f"  ... {len(lines) - rows} more {of}".rstrip(), "dim"))

    def result(self, kind, name, figure="", seconds=None, name_width=26):
        """One check's line. `kind` is ok, FAIL or skip."""
        took = "" if seconds is None else f"{seconds:5.1f} s"
        self.line(f"  {self.paint(f'{kind:<4}', kind)}  {self.paint(took, 'dim')}  {name:<{name_width}}  {figure}".rstrip())
        if kind == "ok":
            self.passed += 1
        elif kind == "skip":
            self.skipped += 1
        else:
            self.failed += 1
            self.failures.append(name)

    def check(self, name, action):
        """Runs `action`, which returns its figure or raises; prints and counts. Returns whether it was well."""
        started = time.monotonic()
        try:
            figure = action()
        except Exception as e:  # any failure of a check is its result
            why = str(e).strip() or type(e).__name__
            first, *rest = textwrap.wrap(why, 100) if "\n" not in why else why.split("\n")
            self.result("FAIL", name, first, time.monotonic() - started)
            for line in rest[:20]:
                self.line(f"{'':44}{line}")
            return False
        self.result("ok", name, str(figure), time.monotonic() - started)
        return True


class Wrong(AssertionError):
    """A check did not see what it wanted."""


def expect(condition, figure):
    """The figure, if the condition holds; otherwise the figure is what went wrong."""
    if not condition:
        raise Wrong(str(figure))
    return figure
