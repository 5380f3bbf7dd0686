"""`spillway check` and what a bad configuration gets to hear."""

import os
import re
import subprocess
import tempfile

from case import Case, expect
from lab.devices import binary, configuration

GOOD = configuration()
#: What is wrong, the configuration, the word at which the caret must stand, what the message must speak of.
BAD = [
    ("unknown command", GOOD + "frobnicate 3\n", "frobnicate", ""),
    ("unknown word in a command", GOOD.replace("ip nat inside source", "ip nat inside sauce"), "sauce", "source"),
    ("address out of range", GOOD.replace("10.1.0.1 255", "10.1.0.256 255"), "10.1.0.256", "address"),
    ("mask with a hole", GOOD.replace("10.1.0.1 255.255.255.0", "10.1.0.1 255.0.255.0"), "255.0.255.0", "mask"),
    ("word missing", GOOD.replace("ip nat inside source list 1 interface Outside overload", "ip nat inside source list 1"), "", "interface"),
    ("number out of range", GOOD + "ip nat translation udp-timeout 99999999999\n", "99999999999", ""),
    ("interface that is not there", GOOD.replace("interface Outside overload", "interface Serial0 overload"), "Serial0", "Serial0"),
    ("pool that is not there", GOOD.replace("interface Outside overload", "pool nowhere overload"), "nowhere", "nowhere"),
    ("two times one address", GOOD.replace("198.51.100.1 255", "10.1.0.1 255"), "", "10.1.0.1"),
    ("words too many", GOOD + "hostname one two\n", "two", ""),
    ("bad port", GOOD + "ip nat inside source static tcp 10.1.0.11 70000 interface Outside 80\n", "70000", ""),
    ("pool upside down", GOOD + "ip nat pool p 198.51.100.20 198.51.100.10 netmask 255.255.255.0\n", "", ""),
]


class Check(Case):
    needs_lab = False
    workers = (1,)

    def _run(self, text, *words):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "site.conf")
            with open(path, "w") as f:
                f.write(text)
            return subprocess.run([binary(), *[path if w == "FILE" else w for w in words]], capture_output=True, text=True, timeout=20,
                                  stdin=subprocess.DEVNULL)

    def test_a_good_file(self):
        done = self._run(GOOD, "check", "FILE")
        return expect(done.returncode == 0, f"status {done.returncode} {done.stderr[:200]}".strip())

    def test_bad_files_get_line_column_and_caret(self):
        wrong = []
        for name, text, word, about in BAD:
            done = self._run(text, "check", "FILE")
            said = done.stderr + done.stdout
            problem = self._problem(text, word, about, done.returncode, said)
            if problem:
                wrong.append(f"{name}: {problem}\n{said.strip()}")
        expect(not wrong, "\n".join(wrong))
        return f"{len(BAD)} kinds of mistakes, each with file, line, column and caret, exit status 2"

    @staticmethod
    def _problem(text, word, about, status, said):
        if status != 2:
            return f"status {status}, not 2"
        place = re.search(r"site\.conf:(\d+):(\d+)", said)
        if not place:
            return "no FILE:LINE:COLUMN"
        lines = said.splitlines()
        caret = next((k for k, line in enumerate(lines) if re.fullmatch(r"[\s|\d]*\^[\^~]*.*", line)), None)
        if not caret:
            return "no caret"
        if word:
            line = next(n for n, line in enumerate(text.splitlines(), 1) if word in line.split())
            if int(place[1]) != line:
                return f"line {place[1]}, not {line}"
            column = text.splitlines()[line - 1].index(word) + 1
            if int(place[2]) != column:
                return f"column {place[2]}, not {column}"
            if lines[caret - 1].find(word) != lines[caret].find("^"):
                return f"the caret is not under {word}"
        if about and about not in said:
            return f"nothing about {about}"
        return ""

    def test_every_mistake_of_a_file_is_told(self):
        text = GOOD.replace("10.1.0.1 255", "10.1.0.300 255") + "frobnicate\n"
        done = self._run(text, "check", "FILE")
        said = done.stderr + done.stdout
        return expect(done.returncode == 2 and "10.1.0.300" in said and "frobnicate" in said, "both mistakes of one file told")

    def test_lines_that_mean_nothing_here_warn(self):
        text = "service timestamps debug uptime\n" + GOOD + "ip classless\nline vty 0 4\n login\n!\nend\n"
        done = self._run(text, "check", "FILE")
        said = done.stderr + done.stdout
        return expect(done.returncode == 0 and "service timestamps" in said and "line vty" in said, f"status {done.returncode}, lines named")

    def test_a_missing_file(self):
        done = subprocess.run([binary(), "check", "/nowhere/site.conf"], capture_output=True, text=True, timeout=20)
        said = (done.stderr + done.stdout).strip()
        return expect(done.returncode == 2 and "/nowhere/site.conf" in said and "No such file" in said, said)

    def test_run_with_a_bad_file_starts_nothing(self):
        done = self._run(BAD[1][1], "run", "--config", "FILE")
        return expect(done.returncode == 2 and "sauce" in done.stderr and "^" in done.stderr, f"status {done.returncode}, the mistake told")

    def test_no_octets_crash_it(self):
        statuses = {}
        for text in ("", "\n\n", "\0\1\2\xff", "interface\n", "interface Inside\n" * 1000, "!" * 100000, "ip " * 10000 + "\n", "\tip\tnat\n", "é ü 漢字\n"):
            done = self._run(text, "check", "FILE")
            statuses[done.returncode] = statuses.get(done.returncode, 0) + 1
        return expect(set(statuses) <= {0, 2}, f"statuses {statuses}")
