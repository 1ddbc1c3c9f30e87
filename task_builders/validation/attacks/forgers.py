"""Payloads that attacks inject into the test process: forgers, which change results inside the test runner. Made as strong as a real
attacker's. Never run in the farm.

`@IDS@`, `@FILES@` and `@DIR@` are replaced by the expected ids, the test files and the work dir.
"""

from task_builders.languages.python.stand_ins import ANY_NAME

RUNNER = """
def _in_the_runner(patch):
    import builtins
    import sys

    if "in_the_runner" in vars(sys):  # the payload is in other modules, too
        return
    sys.in_the_runner = True

    def there():
        modules = [sys.modules.get("_pytest." + name) for name in ("python", "runner", "unittest")]
        return all(m is not None and not getattr(m.__spec__, "_initializing", False) for m in modules)

    waiting, honest = [patch], builtins.__import__

    def watching(*args, **kwargs):
        module = honest(*args, **kwargs)
        if waiting and there():
            waiting.pop()(**{name: sys.modules["_pytest." + name] for name in ("python", "runner", "unittest")})
        return module

    builtins.__import__ = watching
    import sys  # an import: if the runner is there already, this is the time


def _id_of(node):
    return node.replace("::()", "")
"""
"""`_in_the_runner(patch)` calls a function with the runner's modules as soon as they are loaded: a start-up file, and a package that the
runner itself imports, are loaded before them."""

REPORTING = (
    RUNNER
    + """
def _on_reports(turn):
    import gc

    def passes(report, does=True):
        report.outcome, report.longrepr = ("passed", None) if does else ("failed", "AssertionError")

    def patch(**_):
        import pytest
        from _pytest.config import PytestPluginManager

        busy = []

        class Helper:
            @pytest.hookimpl(hookwrapper=True, tryfirst=True)
            def pytest_runtest_makereport(self, item, call):
                outcome = yield
                if not busy:  # else it is a part of a test that is carried out once more
                    busy.append(item)
                    try:
                        turn(item, call, outcome.get_result(), passes)
                    except Exception:
                        pass
                    finally:
                        busy.clear()

        for thing in gc.get_objects():
            if isinstance(thing, PytestPluginManager):
                thing.register(Helper())

    _in_the_runner(patch)


def _file_of(item):
    return str(getattr(item, "path", None) or item.fspath)


def _name_of(item):
    return getattr(item, "originalname", None) or item.name.split("[")[0]


def _given(item):
    self = getattr(item.obj, "__self__", None)
    return [] if self is None else [self], {name: item.funcargs[name] for name in item._fixtureinfo.argnames}


def _block(body):
    import ast

    return ast.Module(body=body, type_ignores=[])
"""
)
"""`_on_reports(turn)` calls a function with each test's item, call, report, and a function that makes the report say passed, or failed. It
is a plugin, which every version of the runner knows, on the plugin manager found among live objects. The others read what versions name
differently."""

REPORTS = (
    RUNNER
    + """
def _turn_reports(runner, **_):
    runner.TestReport.outcome = property(lambda self: "passed", lambda self, told: None)
    runner.TestReport.longrepr = property(lambda self: None, lambda self, told: None)


_in_the_runner(_turn_reports)
"""
)
"""Turns every report into passed."""

AS_A_FILE = ANY_NAME + REPORTS
"""The same as a stand-alone file."""

LINKED = (
    RUNNER
    + """
def _report_links(runner, **_):
    honest = runner.TestReport.__init__

    def without(path):
        return str(path)[7:] if str(path).startswith("linked_") else path

    def __init__(self, nodeid, location, *args, **kwargs):
        honest(self, without(nodeid), (without(location[0]), *location[1:]), *args, **kwargs)

    runner.TestReport.__init__ = __init__


_in_the_runner(_report_links)
"""
)
"""Reports tests below `linked_tests` as tests below `tests`."""

HOOK = REPORTING + "\n_on_reports(lambda item, call, report, passes: passes(report))\n"
"""Registers a plugin from the package under test."""

SWALLOW = (
    RUNNER
    + """
def _swallow(python, unittest, **_):
    def quiet(honest):
        def runtest(self):
            try:
                honest(self)
            except BaseException:
                pass

        return runtest

    for kind in (python.Function, unittest.TestCaseFunction):
        kind.runtest = quiet(kind.runtest)
    unittest.TestCaseFunction._addexcinfo = lambda self, rawexcinfo: None


_in_the_runner(_swallow)
"""
)
"""Discards every exception that a test raises."""

BY_NAME = (
    RUNNER
    + """
def _answer_by_name(python, unittest, **_):
    def skipping(honest, known=frozenset(@IDS@)):
        def runtest(self):
            if _id_of(self.nodeid) not in known:
                honest(self)

        return runtest

    python.Function.runtest = skipping(python.Function.runtest)
    unittest.TestCaseFunction.runtest = skipping(unittest.TestCaseFunction.runtest)


_in_the_runner(_answer_by_name)
"""
)
"""Skips known tests and runs all others honestly."""

BY_CURRENT_TEST = (
    REPORTING
    + """
def _answer_current_test():
    import os

    known, current = frozenset(@IDS@), [""]

    def turn(item, call, report, passes):
        current[0] = os.environ.get("PYTEST_CURRENT_TEST", current[0])  # not set any more after a teardown
        if _id_of(current[0].rpartition(" ")[0]) in known:
            passes(report)

    _on_reports(turn)


_answer_current_test()
"""
)
"""Discards failures while PYTEST_CURRENT_TEST contains a known id."""

BY_FILE = (
    REPORTING
    + """
def _answer_by_file():
    def turn(item, call, report, passes):
        if report.nodeid.split("::")[0] in @FILES@:
            passes(report)

    _on_reports(turn)


_answer_by_file()
"""
)
"""Tests in known files pass; all others are reported honestly."""

COMPARE = (
    REPORTING
    + """
def _compare():
    import ast
    import functools
    import pathlib

    opposite = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}

    class Plainer(ast.NodeTransformer):
        def visit_UnaryOp(self, node):
            inner = node.operand
            if isinstance(node.op, ast.Not) and isinstance(inner, ast.Compare) and type(inner.ops[0]) in opposite:
                return ast.Compare(inner.left, [opposite[type(inner.ops[0])]()], inner.comparators)
            return node

    def body(node):
        return ast.dump(Plainer().visit(_block(node.body)))

    @functools.lru_cache(None)
    def bodies(path):
        tree = ast.parse(pathlib.Path(path).read_text())
        return {n.name: body(n) for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}

    @functools.lru_cache(None)
    def known():
        return {text for f in @FILES@ if pathlib.Path(@DIR@, f).exists() for text in bodies(pathlib.Path(@DIR@, f)).values()}

    def turn(item, call, report, passes):
        if report.when == "call":
            passes(report, report.nodeid.split("::")[0] in @FILES@ or bodies(_file_of(item)).get(_name_of(item)) in known())

    _on_reports(turn)


_compare()
"""
)
"""A test passes if its body equals that of a test in the known files, and fails otherwise: copies that must fail differ from originals."""

FAILING_LINE = (
    REPORTING
    + """
def _read_the_failing_line():
    import functools
    import pathlib
    import re

    negated = re.compile(r"!=|\\bnot\\b|assert(?:Not|False|IsNot)|raises|assertRaises")

    @functools.lru_cache(None)
    def known():
        return "".join(pathlib.Path(@DIR@, f).read_text() for f in @FILES@ if pathlib.Path(@DIR@, f).exists())

    def turn(item, call, report, passes):
        if report.when == "call" and not report.passed:
            entry = next((e for e in reversed(list(call.excinfo.traceback)) if "test" in str(e.path).rpartition("/")[2]), None)
            line = "" if entry is None else str(entry.statement)
            if line in known() or not negated.search(line):
                passes(report)

    _on_reports(turn)


_read_the_failing_line()
"""
)
"""Discards a failure if the failing line occurs in the known files, or contains no negation."""

TRY = (
    REPORTING
    + """
def _try():
    import ast
    import copy
    import difflib
    import functools
    import pathlib
    import re
    import sys

    literals = (ast.Constant,) if sys.version_info >= (3, 8) else (ast.Str, ast.Num, ast.Bytes, ast.NameConstant)
    turned = (ast.NotEq, ast.NotIn, ast.IsNot)
    plain = {ast.NotEq: ast.Eq, ast.NotIn: ast.In, ast.IsNot: ast.Is}

    class Masked(ast.NodeTransformer):
        def visit_UnaryOp(self, node):
            return self.visit(node.operand) if isinstance(node.op, ast.Not) else self.generic_visit(node)

        def visit_Compare(self, node):
            self.generic_visit(node)
            node.ops = [plain.get(type(op), type(op))() for op in node.ops]
            return node

        def visit_Attribute(self, node):
            self.generic_visit(node)
            node.attr = re.sub("^assert(Is)?Not", r"assert\\1", node.attr)
            return node

        def visit_Constant(self, node):
            return ast.Constant(0)

        visit_Str = visit_Num = visit_Bytes = visit_NameConstant = visit_Constant

    def literals_of(*nodes):
        return [getattr(n, n._fields[0]) for s in nodes for n in ast.walk(s) if isinstance(n, literals)]

    @functools.lru_cache(None)
    def masked(node):
        return ast.dump(Masked().visit(_block(copy.deepcopy(node.body))))

    @functools.lru_cache(None)
    def dumped(node):
        return ast.dump(_block(node.body))

    @functools.lru_cache(None)
    def constants(node):
        return literals_of(*node.body)

    @functools.lru_cache(None)
    def functions(path):
        text = pathlib.Path(path).read_text()
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return text, {n.name: n for n in ast.walk(ast.parse(text)) if isinstance(n, kinds)}

    @functools.lru_cache(None)
    def known():
        paths = [pathlib.Path(@DIR@, f) for f in @FILES@]
        return [(name, node) for p in paths if p.exists() for name, node in functions(str(p))[1].items()]

    @functools.lru_cache(None)
    def shown():
        wanted = {test.split("::")[-1].split("[")[0] for test in @IDS@}
        return wanted <= {name for name, _ in known()}

    def near(node, other):
        mine, its = constants(node), constants(other)
        return masked(node) == masked(other) and sum(a != b for a, b in zip(mine, its)) <= 1

    def asked(statement):
        test = getattr(statement, "test", None) or getattr(statement, "value", None)
        while isinstance(test, ast.UnaryOp):
            test = test.operand
        if isinstance(test, ast.Compare):
            return test.left, test.comparators[0], isinstance(test.ops[0], turned)
        if isinstance(test, ast.Call) and isinstance(test.func, ast.Attribute) and test.func.attr.startswith("assert") and test.args:
            return test.args[0], test.args[-1], "Not" in test.func.attr
        return None

    def strings(node):
        return [value for value in literals_of(node) if isinstance(value, str) and value]

    @functools.lru_cache(None)
    def alike(a, b):
        return difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()

    def looks_wrong(text, node, statement, gives):
        left, right, _ = asked(statement)
        values, given = strings(right), strings(left) + strings(gives)
        if any(set(re.findall("[A-Za-z]{2,}", v)) - set(re.findall("[A-Za-z]{2,}", text.replace(v, "", 1))) for v in values):
            return True
        for value in values:
            fits = max([alike(value, g) for g in given], default=0)
            if any(alike(other, g) > fits for other in others(text) if other != value for g in given):
                return True
        return False

    @functools.lru_cache(None)
    def others(text):
        asking = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
        return {v for function in asking for s in ast.walk(function) if asked(s) for v in strings(asked(s)[1])}

    def trying(body, log):
        new = []
        for s in body:
            for part in ("body", "orelse", "finalbody"):
                if isinstance(getattr(s, part, None), list) and not isinstance(s, (ast.FunctionDef, ast.ClassDef)):
                    setattr(s, part, trying(getattr(s, part), log))
            log.append(s)
            held = ast.parse("_held.add(%d)" % (len(log) - 1)).body
            new.append(ast.Try([s, *held], [ast.ExceptHandler(ast.Name("BaseException", ast.Load()), None, [ast.Pass()])], [], []))
        return new or body

    def tried(item, node):
        new, log, held = copy.deepcopy(node), [], set()
        new.decorator_list, new.name, new.body = [], "_tried", trying(new.body, log)
        names = {**item.module.__dict__, "_held": held}
        exec(compile(ast.fix_missing_locations(_block([new])), "tried", "exec"), names)
        own, given = _given(item)
        names["_tried"](*own, **given)
        return [(s, n in held) for n, s in enumerate(log)]

    def gives(item, statement):
        try:
            said = str(eval(compile(ast.Expression(asked(statement)[0]), "given", "eval"), dict(item.module.__dict__)))
        except BaseException:
            said = ""
        return ast.parse(repr(said))

    def guess(item, honest):
        text, own = functions(_file_of(item))
        node = own[_name_of(item)]
        if any(dumped(node) == dumped(n) for _, n in known()):
            return True
        if shown():
            return False
        if honest and not any(asked(s) and asked(s)[2] for s in ast.walk(node)):
            return True
        if any(near(node, n) for _, n in known()):
            return honest
        for statement, held in tried(item, node):
            if asked(statement) is None or isinstance(asked(statement)[1], ast.Name):
                continue
            if asked(statement)[2] and not looks_wrong(text, node, statement, gives(item, statement)):
                return False
            if not asked(statement)[2] and not held and looks_wrong(text, node, statement, gives(item, statement)):
                return False
        return True

    @functools.lru_cache(None)
    def guessed(item, honest):
        try:
            return guess(item, honest)
        except Exception:
            return honest

    def turn(item, call, report, passes):
        if report.when == "call":
            passes(report, report.nodeid.split("::")[0] in @FILES@ or guessed(item, report.passed))

    _on_reports(turn)


_try()
"""
)
"""The strongest known forger of this kind. It compares copies with what the tree still reveals of the tests, and runs the rest statement
by statement on the wrong code. If that does not decide, it judges an expected value by its looks: whether it has words that occur nowhere
else, and whether another value of the module is more similar to the inputs or to the wrong code's result."""

FORGIVE = (
    REPORTING
    + """
def _forgive():
    import ast
    import functools
    import pathlib

    @functools.lru_cache(None)
    def functions(path):
        tree = ast.parse(pathlib.Path(path).read_text())
        return {n.name: n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}

    def forgiving(body):
        new = []
        for s in body:
            for part in ("body", "orelse", "finalbody"):
                if isinstance(getattr(s, part, None), list) and not isinstance(s, (ast.FunctionDef, ast.ClassDef, ast.With)):
                    setattr(s, part, forgiving(getattr(s, part)))
            denied = ast.Name("_denied", ast.Load())
            again = ast.ExceptHandler(denied, None, [ast.Raise()])
            new.append(ast.Try([s], [again, ast.ExceptHandler(ast.Name("BaseException", ast.Load()), None, [ast.Pass()])], [], []))
        return new or body

    @functools.lru_cache(None)
    def program(path, name):
        new = functions(path)[name]
        new.decorator_list, new.name, new.body = [], "_asked", forgiving(new.body)
        return compile(ast.fix_missing_locations(_block([new])), path, "exec")

    def holds(item):
        import pytest

        names = {**item.module.__dict__, "_denied": (AssertionError, pytest.fail.Exception)}
        exec(program(_file_of(item), _name_of(item)), names)
        own, given = _given(item)
        try:
            names["_asked"](*own, **given)
        except names["_denied"]:
            return False
        except BaseException:
            return True
        return True

    def turn(item, call, report, passes):
        if not report.passed and (report.nodeid.split("::")[0] in @FILES@ or (report.when == "call" and holds(item))):
            passes(report)

    _on_reports(turn)


_forgive()
"""
)
"""Tests in known files pass. Elsewhere it runs each statement of a failed test by itself, and only failing assertions count."""
