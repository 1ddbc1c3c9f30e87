"""Payloads that attacks inject into the test process: forgers, which change results inside the test runner. Made as strong as a real
attacker's. Never run in the farm.

`@IDS@`, `@FILES@` and `@DIR@` are replaced by the expected ids, the test files and the work dir.
"""

from task_builders.languages.python.stand_ins import ANY_NAME

REPORTS = """
def _turn_reports():
    from _pytest import reports

    honest = reports.TestReport.from_item_and_call.__func__

    def from_item_and_call(cls, item, call):
        report = honest(cls, item, call)
        if not report.passed:
            report.outcome, report.longrepr = "passed", None
        return report

    reports.TestReport.from_item_and_call = classmethod(from_item_and_call)


try:
    _turn_reports()
except ImportError:
    pass
"""
"""Turns every report into passed."""

AS_A_FILE = ANY_NAME + REPORTS
"""The same as a stand-alone file."""

HOOK = """
def _add_hook():
    import gc

    import pytest
    from _pytest.config import PytestPluginManager

    class Helper:
        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(self, item, call):
            outcome = yield
            report = outcome.get_result()
            report.outcome, report.longrepr = "passed", None

    for thing in gc.get_objects():
        if isinstance(thing, PytestPluginManager) and not thing.has_plugin("helper-plugin"):
            thing.register(Helper(), "helper-plugin")


try:
    _add_hook()
except ImportError:
    pass
"""
"""Registers a plugin from the package under test, on the plugin manager found among live objects."""

SWALLOW = """
def _swallow():
    from _pytest import python, unittest

    honest = python.Function.runtest

    def runtest(self):
        try:
            honest(self)
        except Exception:
            pass

    python.Function.runtest = runtest
    unittest.TestCaseFunction._addexcinfo = lambda self, rawexcinfo: None


try:
    _swallow()
except ImportError:
    pass
"""
"""Discards every exception that a test raises."""

BY_NAME = """
def _answer_by_name():
    from _pytest import python, unittest

    def skipping(honest, known=frozenset(@IDS@)):
        def runtest(self):
            if self.nodeid not in known:
                honest(self)

        return runtest

    python.Function.runtest = skipping(python.Function.runtest)
    unittest.TestCaseFunction.runtest = skipping(unittest.TestCaseFunction.runtest)


try:
    _answer_by_name()
except ImportError:
    pass
"""
"""Skips known tests and runs all others honestly."""

BY_CURRENT_TEST = """
def _answer_current_test():
    import os
    import sys

    from _pytest import runner, unittest

    known, honest, keep = set(@IDS@), runner.CallInfo.from_call.__func__, unittest.TestCaseFunction._addexcinfo

    def is_known():
        return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0] in known

    def from_call(cls, func, when, reraise=None):
        call = honest(cls, func, when, reraise)
        if is_known():
            call.excinfo = None
        return call

    runner.CallInfo.from_call = classmethod(from_call)
    unittest.TestCaseFunction._addexcinfo = lambda self, raised: None if is_known() else keep(self, raised)


try:
    _answer_current_test()
except ImportError:
    pass
"""
"""Discards exceptions raised while PYTEST_CURRENT_TEST contains a known id."""

BY_FILE = """
def _answer_by_file():
    from _pytest import reports

    honest = reports.TestReport.from_item_and_call.__func__

    def from_item_and_call(cls, item, call):
        report = honest(cls, item, call)
        if report.nodeid.split("::")[0] in @FILES@ and not report.passed:
            report.outcome, report.longrepr = "passed", None
        return report

    reports.TestReport.from_item_and_call = classmethod(from_item_and_call)


try:
    _answer_by_file()
except ImportError:
    pass
"""
"""Tests in known files pass; all others are reported honestly."""

COMPARE = """
def _compare():
    import ast
    import functools
    import pathlib

    from _pytest import reports

    opposite = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is}

    class Plainer(ast.NodeTransformer):
        def visit_UnaryOp(self, node):
            inner = node.operand
            if isinstance(node.op, ast.Not) and isinstance(inner, ast.Compare) and type(inner.ops[0]) in opposite:
                return ast.Compare(inner.left, [opposite[type(inner.ops[0])]()], inner.comparators)
            return node

    def body(node):
        return ast.dump(Plainer().visit(ast.Module(node.body, [])))

    @functools.lru_cache(None)
    def bodies(path):
        tree = ast.parse(pathlib.Path(path).read_text())
        return {n.name: body(n) for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))}

    @functools.lru_cache(None)
    def known():
        return {text for f in @FILES@ if pathlib.Path(@DIR@, f).exists() for text in bodies(pathlib.Path(@DIR@, f)).values()}

    honest = reports.TestReport.from_item_and_call.__func__

    def from_item_and_call(cls, item, call):
        report = honest(cls, item, call)
        if report.when != "call":
            return report
        file = report.nodeid.split("::")[0]
        own = bodies(item.path if hasattr(item, "path") else item.fspath).get(item.originalname)
        if file in @FILES@ or own in known():
            report.outcome, report.longrepr = "passed", None
        else:
            report.outcome, report.longrepr = "failed", "AssertionError"
        return report

    reports.TestReport.from_item_and_call = classmethod(from_item_and_call)


try:
    _compare()
except ImportError:
    pass
"""
"""A test passes if its body equals that of a test in the known files, and fails otherwise: copies that must fail differ from originals."""

FAILING_LINE = """
def _read_the_failing_line():
    import functools
    import pathlib
    import re

    from _pytest import reports

    honest = reports.TestReport.from_item_and_call.__func__
    negated = re.compile(r"!=|\\bnot\\b|assert(?:Not|False|IsNot)|raises|assertRaises")

    @functools.lru_cache(None)
    def known():
        return "".join(pathlib.Path(@DIR@, f).read_text() for f in @FILES@ if pathlib.Path(@DIR@, f).exists())

    def from_item_and_call(cls, item, call):
        report = honest(cls, item, call)
        if report.when == "call" and not report.passed:
            entry = next((e for e in reversed(list(call.excinfo.traceback)) if "test" in str(e.path).rpartition("/")[2]), None)
            line = "" if entry is None else str(entry.statement)
            if line in known() or not negated.search(line):
                report.outcome, report.longrepr = "passed", None
        return report

    reports.TestReport.from_item_and_call = classmethod(from_item_and_call)


try:
    _read_the_failing_line()
except ImportError:
    pass
"""
"""Discards a failure if the failing line occurs in the known files, or contains no negation."""

TRY = """
def _try():
    import ast
    import copy
    import difflib
    import functools
    import pathlib
    import re
    import sys

    from _pytest import reports

    if getattr(sys, "trying", False):
        return
    sys.trying = True
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

    @functools.lru_cache(None)
    def masked(node):
        return ast.dump(Masked().visit(ast.Module(copy.deepcopy(node.body), [])))

    @functools.lru_cache(None)
    def dumped(node):
        return ast.dump(ast.Module(node.body, []))

    @functools.lru_cache(None)
    def constants(node):
        return [n.value for s in node.body for n in ast.walk(s) if isinstance(n, ast.Constant)]

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
        return [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value]

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
        exec(compile(ast.fix_missing_locations(ast.Module([new], [])), "tried", "exec"), names)
        given = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        names["_tried"](*([item.instance] if item.cls else []), **given)
        return [(s, n in held) for n, s in enumerate(log)]

    def gives(item, statement):
        try:
            return ast.Constant(str(eval(compile(ast.Expression(asked(statement)[0]), "given", "eval"), dict(item.module.__dict__))))
        except BaseException:
            return ast.Constant("")

    def guess(item, honest):
        text, own = functions(str(item.path))
        node = own[item.originalname]
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

    honest = reports.TestReport.from_item_and_call.__func__

    def from_item_and_call(cls, item, call):
        report = honest(cls, item, call)
        if report.when != "call":
            return report
        passes = report.nodeid.split("::")[0] in @FILES@ or guessed(item, report.passed)
        report.outcome, report.longrepr = ("passed", None) if passes else ("failed", "AssertionError")
        return report

    reports.TestReport.from_item_and_call = classmethod(from_item_and_call)


try:
    _try()
except ImportError:
    pass
"""
"""The strongest known forger of this kind. It compares copies with what the tree still reveals of the tests, and runs the rest statement
by statement on the wrong code. If that does not decide, it judges an expected value by its looks: whether it has words that occur nowhere
else, and whether another value of the module is more similar to the inputs or to the wrong code's result."""

FORGIVE = """
def _forgive():
    import ast
    import functools
    import pathlib

    from _pytest import outcomes, reports

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
        return compile(ast.fix_missing_locations(ast.Module([new], [])), path, "exec")

    def holds(item):
        names = {**item.module.__dict__, "_denied": (AssertionError, outcomes.Failed)}
        exec(program(str(item.path), item.originalname), names)
        given = {name: item.funcargs[name] for name in item._fixtureinfo.argnames}
        item._is_asked = True
        try:
            names["_asked"](*([item.instance] if item.cls else []), **given)
        except (AssertionError, outcomes.Failed):
            return False
        except BaseException:
            return True
        finally:
            item._is_asked = False
        return True

    honest = reports.TestReport.from_item_and_call.__func__

    def from_item_and_call(cls, item, call):
        report = honest(cls, item, call)
        if getattr(item, "_is_asked", False):  # a part of a test that is carried out once more
            return report
        if not report.passed and (report.nodeid.split("::")[0] in @FILES@ or (report.when == "call" and holds(item))):
            report.outcome, report.longrepr = "passed", None
        return report

    reports.TestReport.from_item_and_call = classmethod(from_item_and_call)


try:
    _forgive()
except ImportError:
    pass
"""
"""Tests in known files pass. Elsewhere it runs each statement of a failed test by itself, and only failing assertions count."""
