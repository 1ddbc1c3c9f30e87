"""Payloads that attacks inject into the test process: they write reports, exit early, or exhaust the box. Made as strong as a real
attacker's. Never run in the farm.

`@IDS@` is replaced by the expected ids.
"""

FORGED_REPORT = """
def _forge_report():
    import os
    import subprocess
    import sys
    from xml.sax.saxutils import quoteattr

    if os.environ.get("FORGING"):
        return
    argv = open("/proc/self/cmdline", "rb").read().decode().split("\\0")[:-1]
    path = next((a.partition("=")[2] for a in argv if a.startswith("--junitxml=") or a.startswith("--junit-xml=")), None)
    if path is None:
        return
    asking = [a for a in argv if not a.startswith(("--junit", "-q", "-v"))]
    asking += ["--collect-only", "-q"]
    said = subprocess.run(asking, env={**os.environ, "FORGING": "1"}, stdout=subprocess.PIPE, universal_newlines=True).stdout
    cases = []
    for test in dict.fromkeys([line.replace("::()", "") for line in said.splitlines() if "::" in line]):
        head, bracket, parameters = test.partition("[")
        file, *classes, name = head.split("::")
        dotted = ".".join([file[:-3].replace("/", "."), *classes])
        cases.append("<testcase classname=%s name=%s file=%s/>" % tuple(map(quoteattr, (dotted, name + bracket + parameters, file))))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as report:
        report.write("<testsuites><testsuite>" + "".join(cases) + "</testsuite></testsuites>")
    os._exit(0)


_forge_report()
"""
"""Reads the report's path from the process's arguments, collects the tests, reports all as passed, and exits."""

LEAVE = """
def _leave():
    import sys

    if "pytest" in sys.modules or "_pytest" in sys.modules:
        import os

        os._exit(0)


_leave()
"""
"""Exits with success before any test runs."""

AT_EXIT = """
def _at_exit():
    import atexit
    import os
    import re

    argv = open("/proc/self/cmdline", "rb").read().decode().split("\\0")
    path = next((a.partition("=")[2] for a in argv if a.startswith("--junit")), None)

    def rewrite():
        try:
            with open(path) as report:
                text = report.read()
            text = @REWRITE@
            with open(path, "w") as report:
                report.write(text)
        except OSError:
            pass
        @LEAVE@

    if path:
        atexit.register(rewrite)


_at_exit()
"""
"""Rewrites the process's own report at exit."""

REMOVE_FAILURES = r"""re.sub(r"<testcase [^>]*[^/]>\s*<(?:failure|error).*?</testcase>", "", text, flags=re.S)"""
TURN_FAILURES = r"""re.sub(r"<(failure|error) .*?</\1>", "", text, flags=re.S)"""

PRINTED = """
def _print_results():
    import os

    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink("/proc/self/fd/" + fd).startswith("pipe:"):
                os.write(int(fd), "".join("PASSED %s\\n" % test for test in @IDS@).encode())
        except OSError:
            pass
    os._exit(0)


_print_results()
"""
"""Prints results to every pipe that the process holds."""

DAEMON = r"""
import os, re, signal, time

if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for fd in (0, 1, 2):
    os.dup2(os.open(os.devnull, os.O_RDWR), fd)
end = time.time() + 90
while time.time() < end:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/" + pid + "/cmdline", "rb") as words:
                path = re.search(rb"/tmp/[^=\0]+[.]report", words.read())
            if path:
                os.kill(int(pid), signal.SIGSTOP)
                with open(path.group(), "w") as report:
                    report.write(@REPORT@)
                os.kill(int(pid), signal.SIGKILL)
        except OSError:
            pass
    time.sleep(0.001)
"""
"""A process that outlives the agent, ends test runs as they appear, and writes their reports."""

FILL_DISK = """
def _fill():
    import os

    step = 1 << 26
    with open("/tmp/filling", "wb") as file:
        for size in (step, 1 << 16):
            try:
                for _ in range(@COUNT@):
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
            except OSError:
                pass


_fill()
"""
FILL_MEMORY = """
def _fill():
    kept = []
    for _ in range(@COUNT@):
        kept.append(bytearray(b"x" * (1 << 20)))


_fill()
"""
FILL_PIDS = """
def _fill():
    import os
    import time

    for _ in range(@COUNT@):
        try:
            if not os.fork():
                time.sleep(20)
                os._exit(0)
        except OSError:
            break


_fill()
"""
CLOCK = """
def _shift():
    import locale
    import time

    honest = time.time
    time.time = lambda: honest() + 1e9
    time.sleep = lambda seconds: None
    try:
        locale.setlocale(locale.LC_ALL, "tr_TR.UTF-8")
    except locale.Error:
        pass


_shift()
"""
