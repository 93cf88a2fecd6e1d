"""Drives `veilgate shell` through a pseudo-terminal.

Run as `python test_shell.py DIR`, with the binary in `VEILGATE`, where DIR is the folder of a running sandbox with the tables of
`main.rs` beside the Rust test that starts it.
"""

import fcntl
import os
import pathlib
import pty
import re
import select
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest

DIR = pathlib.Path(sys.argv.pop())
BINARY = os.environ["VEILGATE"]

JOINED = """SELECT p.ward, COUNT(*) AS people FROM alpha.people p
JOIN beta.incomes i ON p.id = i.id
GROUP BY p.ward ORDER BY p.ward;"""
SLOW = """SELECT r.id FROM alpha.rows r LEFT JOIN beta.incomes i ON r.id = i.id ORDER BY i.income, r.v, r.id LIMIT 3;"""


class Terminal:
    """A shell on a terminal of 80 columns."""

    def __init__(self, home):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(HOME=home, TERM="xterm", XDG_STATE_HOME="", NO_COLOR="1")
            os.execv(BINARY, [BINARY, "shell", "--dir", str(DIR)])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.seen = ""

    def type(self, text):
        os.write(self.fd, text.encode())

    def until(self, wanted, within=60):
        """What is shown until this is, as plain text; the rest stays for the next."""
        deadline = time.monotonic() + within
        while True:
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", self.seen)
            at = plain.find(wanted)
            if at >= 0:
                self.seen = plain[at + len(wanted) :]
                return plain[: at + len(wanted)]
            if time.monotonic() > deadline or not self.read(deadline):
                raise AssertionError(f"no {wanted!r} in {plain!r}")

    def read(self, deadline):
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            more = os.read(self.fd, 65536)
        except OSError:  # The other end is closed.
            return False
        self.seen += more.decode(errors="replace")
        return bool(more)

    def ended(self):
        """The exit code."""
        while self.read(time.monotonic() + 60):
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Shell(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        self.shell = Terminal(self.home.name)
        self.shell.until("alpha> ")

    def ask(self, text, wanted):
        self.shell.type(text + "\n")
        shown = self.shell.until(wanted)
        self.shell.until("alpha> ")
        return shown

    def test_a_query_over_several_lines(self):
        shown = self.ask(JOINED, "(3 rows)")
        self.assertRegex(shown, r"east +30")
        table = shown[shown.index(" ward ") :]
        for line in table.split("\n"):
            self.assertLessEqual(len(line), 80, line)

    def test_what_there_is(self):
        self.assertIn("beta.incomes", self.ask("\\dt", "beta.incomes"))
        self.assertIn("date", self.ask("\\d alpha.people", "secret"))
        self.ask("\\d nothing.here", "error[unknown-table]")
        self.assertIn("JOINT PLAN", self.ask("\\explain " + JOINED.replace("\n", " "), "GUARDS"))
        self.ask("SELECT COUNT(*) AS columns FROM veilgate.catalog;", "(1 row)")
        self.ask("\\?", "Ctrl-C cancels")
        self.ask("\\nothing", "no such command")

    def test_completion(self):
        self.shell.type("SELECT i.income FROM beta.inc\t")
        self.shell.until("beta.incomes")
        self.shell.type(" i;\x03")
        self.shell.until("alpha> ")

    def test_mistakes_end_nothing(self):
        self.ask("SELEC 1;", "error[sql-syntax]")
        self.ask("SELECT p.secret FROM alpha.people p JOIN beta.incomes i ON p.id = i.id;", "allowed instead")
        self.ask("SELECT 1 AS one;", "(1 row)")

    def test_timing_purpose_and_output(self):
        self.ask("\\timing on", "timing is on")
        self.ask("\\purpose a test of the shell", "purpose: a test of the shell")
        self.ask(JOINED, "time: ")
        self.ask("SELECT purpose FROM veilgate.queries ORDER BY submitted DESC, purpose DESC LIMIT 1;", "a test of the shell")
        with tempfile.NamedTemporaryFile() as file:
            self.ask("\\format csv", "")
            self.ask(f"\\o {file.name}", "")
            self.ask(JOINED, "(3 rows)")
            self.assertEqual(file.read(), b"ward,people\neast,30\nnorth,30\nwest,30\n")

    def test_a_query_is_cancelled_and_the_shell_goes_on(self):
        self.shell.type(SLOW + "\n")
        self.shell.until("joint")
        self.shell.type("\x03")
        self.shell.until("error[cancelled]")
        self.ask("SELECT 1 AS one;", "(1 row)")

    def test_the_end_and_the_history(self):
        self.second = Terminal(self.home.name)
        self.second.until("alpha> ")
        self.ask("SELECT 7 AS seven;", "(1 row)")
        self.ask(" SELECT 8 AS hidden;", "(1 row)")
        self.shell.type("half a line\x03")
        self.shell.until("alpha> ")
        self.shell.type("\x04")
        self.assertEqual(self.shell.ended(), 0)
        history = pathlib.Path(self.home.name, ".local/state/veilgate/history")
        self.assertEqual(stat.S_IMODE(history.stat().st_mode), 0o600)
        self.assertIn("SELECT 7", history.read_text())
        self.assertNotIn("hidden", history.read_text())
        # Another that was opened meanwhile adds to it.
        self.ask_another("SELECT 9 AS nine;")
        self.assertIn("SELECT 7", history.read_text())
        self.assertIn("SELECT 9", history.read_text())

    def ask_another(self, text):
        self.shell = self.second
        self.ask(text, "(1 row)")
        self.shell.type("\x04")
        self.shell.ended()


class Script(unittest.TestCase):
    def run_script(self, text, *more):
        command = [BINARY, "shell", "--dir", str(DIR), "--output", "csv", "--quiet", *more]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)

    def test_a_script_ends_at_its_first_mistake(self):
        done = self.run_script("SELECT 1 AS a; SELECT 2\nAS b")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "a\n1\nb\n2\n", ""))
        done = self.run_script("SELECT 1 AS a;\nSELEC;\nSELECT 3 AS c;")
        self.assertEqual((done.returncode, done.stdout), (64, "a\n1\n"))
        self.assertIn("sql-syntax", done.stderr)
        street = "SELECT p.street FROM alpha.people p WHERE p.id = 7"
        done = self.run_script(street)
        self.assertEqual(done.returncode, 77)
        self.assertIn("`inquiry` or `census`", done.stderr)
        done = self.run_script(street, "--purpose", "census", "--case", "17")
        self.assertEqual((done.returncode, done.stdout), (0, "street\nstreet7\n"))
        done = self.run_script("/* off:\nSELECT 1 AS a;\n*/\nSELECT 2 AS b;")
        self.assertEqual((done.returncode, done.stdout), (0, "b\n2\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
