"""The program between its terminal, its pipes and its home: whatever they are like, it says what a person needs to know."""

import os
import pty
import re
import select
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.program.process import Told, arguments_of, envfarm, started

pytestmark = pytest.mark.timeout(180)


# The shell


def test_shell_runs_the_script_that_is_piped_into_it(farm_home: Path) -> None:
    lines = b"cd /tmp; X=5\ncat <<'END'\nexit\nEND\necho $X in $PWD\nprintf '\\033[31mred'; false\nexit\necho never\n"
    done = subprocess.run(arguments_of(farm_home, ["shell", "adder"]), input=lines, capture_output=True, check=False, timeout=60)
    told = Told(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert told.status == 0
    assert told.out.splitlines() == ["exit", "5 in /tmp", r"\x1b[31mred"]
    assert "[exit status 1]" in told.err


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)  # noqa: S606 - the child of a fork has nothing else to do
        self.seen = ""
        self._past = 0

    def until(self, words: str) -> None:
        """Read until the words come, after those that were waited for before."""
        while (found := self.seen.find(words, self._past)) < 0:
            self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
        self._past = found + len(words)

    def until_so(self, event: Callable[[], bool]) -> None:
        """Read until something that the terminal does not tell is so."""
        while not event():
            if select.select([self._descriptor], [], [], 0.05)[0]:
                self.seen += os.read(self._descriptor, 65536).decode(errors="replace")

    def insist(self, key: str, words: str) -> None:
        """Press a key until the words come: Python's readline misses an interrupt that falls between its prompt and its wait for keys."""
        while (found := self.seen.find(words, self._past)) < 0:
            self.type(key)
            while select.select([self._descriptor], [], [], 1.0)[0] and self.seen.find(words, self._past) < 0:
                self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
        self._past = found + len(words)

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def to_the_end(self) -> int:
        try:
            while data := os.read(self._descriptor, 65536):
                self.seen += data.decode(errors="replace")
        except OSError:
            pass  # how the other side's end is told on Linux
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(status)


def _runs(*argv: str) -> bool:
    """Whether such a process is on this machine: those of local boxes are, too."""
    wanted = "".join(f"{argument}\0" for argument in argv).encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == wanted:
                return True
        except OSError:
            continue
    return False


def test_ctrl_c_in_the_shell_ends_the_command_and_not_the_shell(farm_home: Path) -> None:
    terminal = Terminal(arguments_of(farm_home, ["shell", "adder"], TERM="dumb"))
    terminal.until("/testbed$ ")
    sleep = ("sleep", f"86400.{os.getpid()}")
    terminal.type(f"Y=kept; {' '.join(sleep)}\n")
    terminal.until_so(lambda: _runs(*sleep))  # what a command says is shown at its end: that it runs, only the kernel tells
    terminal.type("\x03")
    terminal.until("[the command was killed]")
    assert not _runs(*sleep)
    terminal.until("/testbed$ ")
    terminal.type("half a li")
    terminal.until("half a li")  # an interrupt takes keys away that readline was told of and has not read: then it waits for others, deaf
    terminal.insist("\x03", "/testbed$ ")
    terminal.type("echo was $Y\n")
    terminal.until("was kept")
    terminal.until("/testbed$ ")
    terminal.type("\x04")
    assert terminal.to_the_end() == 0


def test_a_command_of_many_lines_is_typed_as_in_every_shell(farm_home: Path) -> None:
    terminal = Terminal(arguments_of(farm_home, ["shell", "adder"], TERM="dumb"))

    def typed(*lines: str) -> str:
        """What is seen of a command that waits for each of its lines."""
        terminal.until("/testbed$ ")
        start = len(terminal.seen)
        for n, line in enumerate(lines):
            terminal.type(f"{line}\n")
            if n < len(lines) - 1:
                terminal.until("> ")
        terminal.until("/testbed$ ")
        terminal.type("\n")
        return terminal.seen[start:]

    assert "<exit>|  two|" in typed("cat <<END | tr '\\n' '|'", "<exit>", "  two", "END").replace("\r", "")
    assert "a1\nb" in typed("for n in 1; do", 'echo "a$n', 'b"', "done").replace("\r", "")
    assert "one two" in typed("echo one \\", "two")
    assert "syntax error" in typed("echo )")
    terminal.until("/testbed$ ")
    terminal.type("echo 'never\n")
    terminal.until("> ")
    terminal.insist("\x03", "/testbed$ ")
    terminal.type("cat <<END\n")
    terminal.until("> ")
    terminal.type("\x04")
    terminal.until("/testbed$ ")
    terminal.type("exit\n")
    assert terminal.to_the_end() == 0
    assert "delimited by end-of-file" in terminal.seen, "the shell itself says what it makes of a command whose input ends"


# Terminals and pipes


def test_output_that_nobody_reads_on_ends_quietly(farm_home: Path) -> None:
    for arguments in (["tasks", "show", "adder"], ["--help"], ["tasks", "list", "--state", "any"]):
        with started(farm_home, *arguments) as process:
            assert process.stdout is not None
            process.stdout.close()
            process.stdout = None
            _, err = process.communicate(timeout=60)
            assert err == b""


@pytest.mark.parametrize("arguments", [["tasks", "list", "--state", "any"], ["runs"], ["doctor"], ["--help"]], ids=" ".join)
def test_sixty_columns_are_enough_and_no_color_is_heeded(farm_home: Path, arguments: list[str]) -> None:
    terminal = Terminal(arguments_of(farm_home, arguments, COLUMNS="60", TERM="xterm", NO_COLOR="1"))
    terminal.to_the_end()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.seen)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen)
    assert plain.strip()
    assert not re.search(r"aaaa11\s*\n\s*11", plain), "a name is broken where it cannot be copied"
    if arguments != ["--help"]:
        assert max(len(line.rstrip()) for line in plain.splitlines()) <= 60


def test_encoding_that_cannot_say_everything_stops_nothing(farm_home: Path) -> None:
    told = envfarm(farm_home, "doctor", PYTHONIOENCODING="ascii")
    assert told.status == envfarm(farm_home, "doctor").status
    assert r"\u2713" in told.out


# The home


def test_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = envfarm(tmp_path / "file/home", "tasks", "list")
    assert told.status == 1
    assert "Not a directory" in told.error
    assert "ENVFARM_HOME" in told.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: run the tests as another user")
def test_home_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    told = envfarm(tmp_path / "home", "tasks", "list")
    assert told.status == 1
    assert "Permission denied" in told.error
    assert "ENVFARM_HOME" in told.hint


def test_no_command_shows_the_commands(home: Path) -> None:
    told = envfarm(home)
    assert told.status == 2
    assert told.err.startswith("Usage: ")
    assert "error" not in told.err
    mistyped = envfarm(home, "biuld")
    assert mistyped.status == 2
    assert "biuld" in mistyped.error
