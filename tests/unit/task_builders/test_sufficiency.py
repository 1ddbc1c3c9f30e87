"""Sufficiency: what tests need, and what must not count as a need."""

import textwrap

import pytest

from task_builders.languages import vocabulary
from task_builders.languages.python import needs as needs_python
from task_builders.validation import sufficiency
from task_builders.validation.sufficiency import Name

BASE = {
    "src/rockets/__init__.py": "from rockets.engine import Engine\n",
    "src/rockets/engine.py": textwrap.dedent('''
        class Engine:
            """Burns fuel."""
            def ignite(self, fuel, *, slowly=False):
                if fuel < 0:
                    raise ValueError("fuel must not be negative")
                flatten = 1
    '''),
    "README.md": "Run with `--verbose`.",
}
PROJECT = frozenset({"rockets"})
OUTPUT: tuple[Name, ...] = (("attribute", "output"),)
LAUNCH: tuple[Name, ...] = (("attribute", "launch"), ("keyword", "throttle"))


def judge(test: str, instruction: str = "Engines explode.", elsewhere: tuple[Name, ...] = OUTPUT) -> list[str]:
    """The unmet needs of the test `test_it` of a file inside the package."""
    text = "import pytest\nimport os\nimport rockets\nfrom rockets import Engine\n" + textwrap.dedent(test)
    ids = ["src/rockets/tests/test_a.py::test_it"]
    needs = needs_python.needs(text, ids, project_modules=PROJECT, test_modules=frozenset({"tests", "conftest"}))
    base = vocabulary.of_tree(BASE, needs_python.bound_names)
    verdict = sufficiency.judge(needs, base=base, instruction=instruction, known_elsewhere=elsewhere)
    return [word for words in verdict.unmet.values() for word in words]


@pytest.mark.parametrize(
    ("test", "missing"),
    [
        ("def test_it():\n    rockets.launch()", "the name `launch`"),
        ("def test_it():\n    Engine().throttle()", "the attribute `throttle`"),
        ("def test_it():\n    from rockets import launch", "the name `launch`"),
        ("def test_it():\n    Engine().ignite(3, carefully=True)", "the keyword `carefully`"),
        ("def test_it(runner):\n    runner(['--very-quiet'])", "the option `--very-quiet`"),
        ("def test_it(runner):\n    runner(('run', '--speed=3'))", "the option `--speed`"),
        (
            "def test_it():\n    with pytest.raises(ValueError, match='engine is much too hot'):\n        Engine()",
            "the message “engine is much too hot”",
        ),
        ("def test_it(r):\n    assert 'the engine has stopped' in r.output", "the message “the engine has stopped”"),
        ("def make():\n    return rockets.launch()\ndef test_it():\n    make()", "the name `launch`"),
        ("@pytest.fixture\ndef pad():\n    return rockets.launch()\ndef test_it(pad):\n    pass", "the name `launch`"),
        ("def test_it():\n    launch = rockets.launch\n    launch()", "the name `launch`"),
        ("def test_it():\n    assert rockets.launch('launch') == 'launch'", "the name `launch`"),
        (
            "@pytest.mark.parametrize('sparkle', [1])\ndef test_it(sparkle):\n    rockets.Engine(1, sparkle=sparkle)",
            "the keyword `sparkle`",
        ),
        ("def test_it():\n    sparkle = 1\n    Engine().ignite(1, sparkle=sparkle)", "the keyword `sparkle`"),
        ("def test_it():\n    engine = Engine()\n    engine.ignite(3, carefully=True)", "the keyword `carefully`"),
        ("from rockets import *\ndef test_it():\n    launch()", "the name `launch`"),
        ("def test_it():\n    import rockets.pads\n    rockets.pads", "the name `pads`"),
        ("from .. import launch\ndef test_it():\n    launch", "the name `launch`"),
        ("class TestX:\n    def setup_method(self):\n        rockets.launch()\n    def test_it(self):\n        pass", "the name `launch`"),
    ],
)
def test_what_nobody_tells_is_missing(test: str, missing: str) -> None:
    if "class TestX" in test:
        source = "import rockets\n" + test
        needs = needs_python.needs(source, ["t.py::TestX::test_it"], project_modules=PROJECT, test_modules=frozenset())
        verdict = sufficiency.judge(needs, base=vocabulary.of_tree(BASE, needs_python.bound_names), instruction="")
        assert verdict.unmet == {"t.py::TestX::test_it": (missing,)}
    else:
        assert judge(test) == [missing]


@pytest.mark.parametrize(
    "test",
    [
        "def test_it():\n    Engine().ignite(fuel=3, slowly=True)",
        "def test_it(tmp_path, monkeypatch):\n    os.path.expandvars('x'); 'a'.casefold()",
        "def test_it():\n    class Own:\n        def whirl(self, speed): self.spin = speed\n    Own().whirl(speed=3).spin",
        "def test_it():\n    with pytest.raises(ValueError, match='fuel must not be'):\n        Engine().ignite(-1)",
        "def test_it(r):\n    r(help='say hello to all')\n    assert 'say hello to all' in r.output",
        "@rockets.option('--shout')\ndef cli(shout): pass\ndef option(): pass\ndef test_it(runner):\n    runner(cli, ['--shout'])",
        "def test_it(runner):\n    runner(['--verbose'])",
        "def test_it():\n    assert Engine().join('--', 'one') == '--one'",
        "def test_it():\n    for a, b in [('one', '--one')]:\n        assert Engine().join(a) == b",
        "def test_it():\n    assert str(Engine()) == 'ok'",
        "def helper(**kw): pass\ndef test_it():\n    helper(anything=1)",
        "def test_it():\n    class Own:\n        spin = 1\n    rockets.Engine(Own(), spin=3)",
        "def test_it():\n    rockets.spin = 3\n    assert rockets.spin == 3",
        "def test_it(rockets):\n    rockets.spin = 3\n    rockets.spin",
        "from rockets import *\nfrom os.path import *\ndef test_it(r):\n    print(Engine, __file__, output)",
        "from . import helpers\nfrom .helpers import whirl\ndef test_it():\n    helpers.spin(whirl)",
        "from rockets.tests.helpers import whirl\ndef test_it():\n    whirl.spin()",
    ],
)
def test_what_is_known_or_the_tests_own_is_not_missing(test: str) -> None:
    told = "There is an option decorator." if "option" in test else ""
    assert judge(test, instruction=told) == []


def test_instruction_tells_names_messages_and_options() -> None:
    test = """
        def test_it(r):
            rockets.launch(quickly=1)
            r(["--very-quiet"])
            assert "the engine has stopped" in r.output
    """
    assert judge(test, "Add `rockets.launch(quickly=...)` and `--very-quiet`; it prints “The engine has stopped”.") == []


def test_name_bound_nowhere_in_the_project_is_missing_though_a_library_has_it() -> None:
    assert judge("def test_it():\n    rockets.launch()", elsewhere=LAUNCH) == ["the name `launch`"]
    assert judge("def test_it(x):\n    x.launch()", elsewhere=LAUNCH) == []
    # A parameter of a library is not an attribute of its objects.
    assert judge("def test_it(x):\n    x.throttle()", elsewhere=LAUNCH) == ["the attribute `throttle`"]


def test_new_import_at_the_top_fails_every_test_of_the_file() -> None:
    text = "from rockets import launch\ndef test_a(): pass\ndef test_b(): pass\n"
    ids = ["t.py::test_a", "t.py::test_b[1-x::y]"]
    needs = needs_python.needs(text, ids, project_modules=PROJECT, test_modules=frozenset())
    verdict = sufficiency.judge(needs, base=vocabulary.of_tree(BASE, needs_python.bound_names), instruction="")
    assert set(verdict.unmet) == set(ids)
    assert not verdict.gate.passed


def test_tests_that_are_told_enough_remain() -> None:
    text = "import rockets\ndef test_a(): rockets.launch()\ndef test_b(): rockets.Engine()\n"
    needs = needs_python.needs(text, ["t.py::test_a", "t.py::test_b"], project_modules=PROJECT, test_modules=frozenset())
    verdict = sufficiency.judge(needs, base=vocabulary.of_tree(BASE, needs_python.bound_names), instruction="")
    assert verdict.enough == ("t.py::test_b",)
    assert verdict.gate.passed
    assert "needs the name `launch`" in verdict.left_out["t.py::test_a"]


def test_a_finished_plan_may_ask_for_nothing_that_nobody_tells() -> None:
    text = "import rockets\ndef test_a(): rockets.launch()\ndef test_b(): rockets.Engine()\n"
    needs = needs_python.needs(text, ["t.py::test_a", "t.py::test_b"], project_modules=PROJECT, test_modules=frozenset())
    base = vocabulary.of_tree(BASE, needs_python.bound_names)
    seen = sufficiency.judge(needs, base=base, instruction="").gate_of_all
    assert (seen.passed, seen.detail) == (False, "the instruction does not suffice for 1 of 2 tests")
    assert seen.evidence["unmet"] == {"t.py::test_a": ("the name `launch`",)}
    assert sufficiency.judge(needs, base=base, instruction="Add `launch`.").gate_of_all.passed


def test_instruction_is_completed_from_the_thread_and_only_with_what_is_missing() -> None:
    thread = ["Me too.\n\nWhat about `rockets.launch`?", "Unrelated words."]
    missing = [vocabulary.Need("name", "launch", of_project=True)]
    whole = sufficiency.complete("Engines explode.", thread, missing)
    assert whole == "Engines explode.\n\nFrom the discussion:\n\nWhat about `rockets.launch`?\n"
    assert sufficiency.complete("Engines explode.", ["Me too."], missing) == "Engines explode."


def test_file_of_another_grammar_is_told_as_such() -> None:
    with pytest.raises(SyntaxError):
        needs_python.needs("print 'old'", ["t.py::test_a"], project_modules=PROJECT, test_modules=frozenset())


def test_a_class_within_a_class_of_tests_is_the_tests_own() -> None:
    text = textwrap.dedent("""
        class TestA:
            class Own:
                spin = 1
            class TestInner:
                def test_b(self): self.thrust
            def test_it(self): self.Own().spin
    """)
    ids = ["tests/test_a.py::TestA::test_it", "tests/test_a.py::TestA::TestInner::test_b"]
    needs = needs_python.needs(text, ids, project_modules=PROJECT, test_modules=frozenset())
    assert not needs[ids[0]]
    assert [need.text for need in needs[ids[1]]] == ["thrust"]


@pytest.mark.parametrize(
    ("text", "test"),
    [
        ("if rockets:\n    def test_it(): Engine().spin\n", "test_it"),
        ("def _check(): Engine().spin\ntest_it = _check\n", "test_it"),
        ("class Mixin:\n    def test_it(self): Engine().spin\nclass TestA(Mixin):\n    pass\n", "TestA::test_it"),
        (
            "class Base:\n    def setUp(self): Engine().spin\nclass TestA(Base):\n    def test_it(self): self.x\n    x = 1\n",
            "TestA::test_it",
        ),
        ("class TestA:\n    @rows(1, 2)\n    def test_it(self, n): Engine().spin\n", "TestA::test_it_0_1"),
        ("@rows(1, 2)\nclass TestA:\n    def test_it(self, n): Engine().spin\n", "TestA_1::test_it"),
    ],
    ids=["condition", "second name", "inherited", "inherited set-up", "generated", "class generated"],
)
def test_a_test_of_any_style_needs_what_it_uses_and_not_the_whole_file(text: str, test: str) -> None:
    text = f"import rockets\nfrom rockets import Engine\n{text}\ndef test_other(): Engine().thrust\n"
    needs = needs_python.needs(text, [f"t.py::{test}"], project_modules=PROJECT, test_modules=frozenset())
    assert [need.text for need in needs[f"t.py::{test}"] if need.kind == "attribute"] == ["spin"]
