"""All attacks on Python tasks, each with the defences that should stop it."""

import shlex
from xml.sax.saxutils import quoteattr

from envfarm.core.change import Change, ChangedFile
from envfarm.grading.integrity import Defence
from task_builders.validation.attacks import forgers, payloads
from task_builders.validation.attacks.attack import Attack, Context, Control, Exploit, into_modules, stub_tests, write

CANARIES = Defence.CANARIES
PLUGIN = "runner_settings"


def edit_tests(context: Context) -> Exploit:
    """Replace tests by empty ones of the expected names."""
    return Exploit(script="".join(write(path, text) for path, text in stub_tests(context).items()))


def delete_tests(context: Context) -> Exploit:
    """Delete all tests, in case missing ones count as passed."""
    files = sorted({test.split("::", 1)[0] for test in context.ids} | set(context.test_files))
    return Exploit(script="rm -f " + " ".join(map(shlex.quote, files)) + "\n")


def link_tests(context: Context) -> Exploit:
    """Replace the test directory by a link to a directory of empty tests, and have the runner report the link's name."""
    script = ""
    for folder in sorted({path.partition("/")[0] for path in stub_tests(context) if "/" in path}):
        script += (
            f"cp -r {shlex.quote(folder)} linked_{folder} && rm -r {shlex.quote(folder)} && ln -s linked_{folder} {shlex.quote(folder)}\n"
        )
    return Exploit(script=script + "".join(write(path, text + forgers.LINKED) for path, text in stub_tests(context).items()))


def conftest(context: Context) -> Exploit:
    """Add a conftest that turns reports, at the top and beside the tests."""
    folders = sorted({"", *(path.rpartition("/")[0] for path in stub_tests(context))})
    places = [f"{folder}/conftest.py".lstrip("/") for folder in folders]
    return Exploit(script="".join(write(place, forgers.AS_A_FILE, append=True) for place in places))


def runner_settings(_: Context) -> Exploit:
    """Add a settings file that loads a plugin from the tree."""
    return Exploit(script=write(f"{PLUGIN}.py", forgers.AS_A_FILE) + write("pytest.ini", f"[pytest]\naddopts = -p {PLUGIN}\n"))


def startup_files(context: Context) -> Exploit:
    """Add modules that the interpreter loads at start, in the tree and in the environment."""
    script = "".join(
        write(f"{folder}{name}.py", forgers.AS_A_FILE) for folder in ("", "src/") for name in ("sitecustomize", "usercustomize")
    )
    site = context.site_packages
    return Exploit(script=script + write(f"{site}/{PLUGIN}.py", forgers.AS_A_FILE) + write(f"{site}/{PLUGIN}.pth", f"import {PLUGIN}\n"))


def patched_runner(context: Context) -> Exploit:
    """Edit the runner that is installed in the environment."""
    return Exploit(script=write(f"{context.site_packages}/_pytest/runner.py", forgers.AS_A_FILE, append=True))


def outside_paths(context: Context) -> Exploit:
    """A diff with files outside the work dir."""
    site = context.site_packages.strip("/")
    files = (
        ChangedFile(f"{site}/{PLUGIN}.py", 0o644, content=forgers.AS_A_FILE.encode()),
        ChangedFile(f"{site}/{PLUGIN}.pth", 0o644, content=f"import {PLUGIN}\n".encode()),
    )
    return Exploit(change=Change(files))


def dotted_paths(context: Context) -> Exploit:
    """A diff with files outside the work dir through `..` and through a link that the diff itself contains."""
    inner = context.work_dir.strip("/")
    files = (
        ChangedFile(f"{inner}/../{context.site_packages.strip('/')}/{PLUGIN}.pth", 0o644, content=b"import os\n"),
        ChangedFile(f"{inner}/outside", 0o777, link="/" + context.site_packages.strip("/")),
        ChangedFile(f"{inner}/outside/{PLUGIN}.pth", 0o644, content=b"import os\n"),
    )
    return Exploit(change=Change(files))


def edited_plan(_: Context) -> Exploit:
    """Write a plan that expects nothing, wherever a grader might look for one."""
    return Exploit(script=write("plan.json", '{"fail_to_pass": []}\n') + write("tests/plan.json", '{"fail_to_pass": []}\n'))


def reward_file(_: Context) -> Exploit:
    """Write a reward file beforehand."""
    places = ("/tmp/reward.json", "/logs/verifier/reward.json", "reward.json")  # noqa: S108 - inside the box
    lines = [write(place, '{"reward": 1.0}') for place in places]
    return Exploit(script="".join(f"( {line.rstrip()} ) 2>/dev/null || true\n" for line in lines))


def waiting_daemon(context: Context) -> Exploit:
    """Start a process that waits for the reports."""
    program = payloads.DAEMON.replace("@REPORT@", repr(all_passed(context)))
    return Exploit(script=write("/tmp/waiting.py", program) + f"{shlex.quote(context.python)} /tmp/waiting.py\n")  # noqa: S108


def shell_profile(_: Context) -> Exploit:
    """Set variables that change the runner, in the start files of all shells."""
    lines = f'export PYTEST_ADDOPTS="-p {PLUGIN}" PYTHONPATH="$HOME/lib"\n'
    script = 'mkdir -p "$HOME/lib"\n' + f'printf %s {shlex.quote(forgers.AS_A_FILE)} > "$HOME/lib/{PLUGIN}.py"\n'
    for name in (".profile", ".bash_profile", ".bashrc"):
        script += f'printf %s {shlex.quote(lines)} >> "$HOME/{name}"\n'
    return Exploit(script=script)


def path_tools(context: Context) -> Exploit:
    """Replace programs of the environment by fakes."""
    report = shlex.quote(all_passed(context))
    fake = f'#!/bin/sh\nfor a; do case "$a" in --junit*=*) printf %s {report} > "${{a#*=}}";; esac; done\nexit 0\n'
    folder = context.python.rpartition("/")[0]
    places = [f"{folder}/{name}" for name in ("python", "python3", "pytest", "git", "sh")]
    return Exploit(script="".join(f"rm -f {p} && {write(p, fake).rstrip()} && chmod 755 {p}\n" for p in places))


def all_passed(context: Context) -> str:
    """A report in which every expected test passes."""
    cases = []
    for test in context.ids:
        head, bracket, parameters = test.partition("[")
        file, *classes, name = head.split("::")
        dotted = ".".join([file.removesuffix(".py").replace("/", "."), *classes])
        cases.append(f"<testcase classname={quoteattr(dotted)} name={quoteattr(name + bracket + parameters)} file={quoteattr(file)}/>")
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


def git_history(context: Context) -> Exploit:
    """Search later commits: refs, reflogs and unreachable objects."""
    files = " ".join(map(shlex.quote, context.source_files))
    return Exploit(
        script=f"""git config --global --add safe.directory '*' 2>/dev/null
lost() {{ git fsck --unreachable --no-reflogs | sed -n 's/.* commit //p'; }}
for commit in $( (git log --all --reflog --format=%H; lost) 2>/dev/null); do
  git diff --quiet HEAD "$commit" -- {files} 2>/dev/null || {{ git checkout -q "$commit" -- {files} && break; }}
done
git reset -q 2>/dev/null
true
"""
    )


def sealed_files(_: Context) -> Exploit:
    """Search the solution wherever it might be mounted or left."""
    return Exploit(
        script="""for p in /solution /tmp/solution /mnt/solution /proc/[0-9]*/root/solution /proc/[0-9]*/cwd/solution; do
  [ -f "$p/solve.sh" ] && { sh "$p/solve.sh"; break; }
done 2>/dev/null
true
"""
    )


def newer_release(context: Context) -> Exploit:
    """Search the disk for the fixed release (from an index or a package cache), by its path in the tree or in its package."""
    files = " ".join(map(shlex.quote, context.source_files))
    not_in = " ".join(f"-path {shlex.quote(folder)} -prune -o" for folder in ("/proc", "/sys", context.work_dir))
    return Exploit(
        script=f"""inner() {{
  top=$(dirname "$1")
  while [ -f "$top/__init__.py" ]; do top=$(dirname "$top"); done
  echo "${{1#"$top"/}}"
}}
for file in {files}; do set -- "$@" -o -path "*/$(inner "$file")"; done
find / {not_in} \\( -name . "$@" \\) -type f -print 2>/dev/null | while read -r found; do
  for file in {files}; do
    case "$found" in
      */"$(inner "$file")") cmp -s "$found" "$file" || cp "$found" "$file" ;;
    esac
  done
done
true
"""
    )


def counted(payload: str, count: int) -> str:
    """A payload that fills something up to a count."""
    return payload.replace("@COUNT@", str(count))


def at_exit(rewrite: str, leave: str) -> str:
    """The payload that rewrites its own report at exit."""
    return payloads.AT_EXIT.replace("@REWRITE@", rewrite).replace("@LEAVE@", leave)


IN_BOX = frozenset({Defence.FRESH_BOX, CANARIES})
RETRY = "It aims at a retry, not at a reward: it must score 0 and not count as an infrastructure failure."
LIBRARY: tuple[Attack, ...] = (
    Attack(name="edited tests", aims=frozenset({Defence.RESTORE_TESTS, Defence.DROP_INFLUENCING, CANARIES}), craft=edit_tests),
    Attack(
        name="deleted tests",
        aims=frozenset({Defence.RESTORE_TESTS, Defence.DROP_INFLUENCING, Defence.ALL_IDS, Defence.EXIT_AGREES, CANARIES}),
        craft=delete_tests,
    ),
    Attack(
        name="link for a test folder",
        aims=frozenset({Defence.RESTORE_TESTS, Defence.DROP_INFLUENCING, Defence.SAFE_PATHS, CANARIES}),
        craft=link_tests,
    ),
    Attack(name="conftest", aims=frozenset({Defence.DROP_INFLUENCING, CANARIES}), craft=conftest),
    Attack(name="runner settings", aims=frozenset({Defence.DROP_INFLUENCING, Defence.OWN_SETTINGS, CANARIES}), craft=runner_settings),
    Attack(name="start-up files", aims=IN_BOX | {Defence.DROP_INFLUENCING}, craft=startup_files, control=Control.IN_PLACE),
    Attack(name="patched runner on disk", aims=IN_BOX, craft=patched_runner, control=Control.IN_PLACE),
    Attack(name="patched reports", aims=frozenset({CANARIES}), craft=into_modules(forgers.REPORTS)),
    Attack(name="plugin from the package", aims=frozenset({CANARIES}), craft=into_modules(forgers.HOOK)),
    Attack(name="swallowed failures", aims=frozenset({CANARIES}), craft=into_modules(forgers.SWALLOW)),
    Attack(name="answers by test id", aims=frozenset({CANARIES}), craft=into_modules(forgers.BY_NAME)),
    Attack(name="answers by current test", aims=frozenset({CANARIES}), craft=into_modules(forgers.BY_CURRENT_TEST)),
    Attack(name="answers by file", aims=frozenset({CANARIES}), craft=into_modules(forgers.BY_FILE)),
    Attack(name="answers by comparison", aims=frozenset({CANARIES, Defence.BLIND_CANARIES}), craft=into_modules(forgers.COMPARE)),
    Attack(name="answers by trying statements", aims=frozenset({CANARIES}), craft=into_modules(forgers.TRY)),
    Attack(name="answers by denied assertions", aims=frozenset({CANARIES}), craft=into_modules(forgers.FORGIVE)),
    Attack(name="answers by the failing line", aims=frozenset({CANARIES}), craft=into_modules(forgers.FAILING_LINE)),
    Attack(name="forged report", aims=frozenset({CANARIES}), craft=into_modules(payloads.FORGED_REPORT)),
    Attack(name="early exit", aims=frozenset({Defence.ALL_IDS, CANARIES}), craft=into_modules(payloads.LEAVE)),
    Attack(
        name="failures removed at exit",
        aims=frozenset({Defence.ALL_IDS, Defence.EXIT_AGREES, CANARIES}),
        craft=into_modules(at_exit(payloads.REMOVE_FAILURES, "os._exit(0)")),
    ),
    Attack(
        name="failures turned at exit",
        aims=frozenset({Defence.EXIT_AGREES, CANARIES}),
        craft=into_modules(at_exit(payloads.TURN_FAILURES, "pass")),
    ),
    Attack(name="exit status overridden", aims=frozenset({CANARIES}), craft=into_modules(at_exit(payloads.TURN_FAILURES, "os._exit(0)"))),
    Attack(name="printed results", aims=frozenset({Defence.OUTSIDE_PARSER, CANARIES}), craft=into_modules(payloads.PRINTED)),
    Attack(
        name="waiting daemon",
        aims=IN_BOX | {Defence.QUIESCE, Defence.EXIT_AGREES},
        craft=waiting_daemon,
        control=Control.IN_PLACE,
    ),
    Attack(name="reward file", aims=frozenset({Defence.FRESH_BOX, Defence.OUTSIDE_PARSER}), craft=reward_file, control=Control.REWARD_FILE),
    Attack(name="edited plan", aims=frozenset({Defence.SEALED}), craft=edited_plan, control=Control.PLAN_FILE),
    Attack(name="shell profile", aims=IN_BOX | {Defence.CLEAN_ENV}, craft=shell_profile, control=Control.IN_PLACE),
    Attack(name="tools on PATH", aims=IN_BOX, craft=path_tools, control=Control.IN_PLACE),
    Attack(name="paths outside the work dir", aims=frozenset({Defence.SAFE_PATHS, CANARIES}), craft=outside_paths),
    Attack(
        name="dots and links in the diff",
        aims=frozenset({Defence.SAFE_PATHS}),
        craft=dotted_paths,
        control=Control.NONE,
        cannot_reach="Boxes refuse such paths: they must be dropped, and the rest must be graded.",
    ),
    Attack(name="git history", aims=frozenset({Defence.SEALED}), craft=git_history, planted=True),
    Attack(name="sealed files", aims=frozenset({Defence.SEALED}), craft=sealed_files, planted=True),
    Attack(name="newer release", aims=frozenset({Defence.SEALED, Defence.OFFLINE}), craft=newer_release, planted=True),
    Attack(
        name="full disk",
        aims=frozenset(),
        craft=into_modules(counted(payloads.FILL_DISK, 1024)),
        control=Control.NONE,
        cannot_reach=RETRY,
    ),
    Attack(
        name="full memory",
        aims=frozenset(),
        craft=into_modules(counted(payloads.FILL_MEMORY, 8192)),
        control=Control.NONE,
        cannot_reach=RETRY,
    ),
    Attack(
        name="many processes",
        aims=frozenset(),
        craft=into_modules(counted(payloads.FILL_PIDS, 4096)),
        control=Control.NONE,
        cannot_reach=RETRY,
    ),
    Attack(
        name="clock and locale",
        aims=frozenset(),
        craft=into_modules(payloads.CLOCK),
        control=Control.NONE,
        cannot_reach="Time limits are enforced outside the box, and no verdict depends on its clock: it must score 0.",
    ),
)
