"""Recipe → Dockerfile. Pure: called by the Docker builder and by the exporters of tasks.

The contract that a recipe's steps rely on, here and in a local layer alike:

- a step is a text for `sh -c`, run as the agent's user (uid 1000), which owns /opt, the work directory and /home/agent;
- `$PYTHON` is the absolute path of the toolchain's interpreter, wherever it is; `uv` is on PATH while an environment is made;
- /opt/venv is where a Python environment goes; /opt/venv/bin comes first on PATH, in steps and in the finished environment;
- dependency steps run in /opt with the recipe's `files` in place and the network open or mirrored. What they leave below /opt is the layer;
- project steps run in the work directory on top of the checkout, without the network in local layers and in the Docker builder. They
  may add to the layer and change what is in it, and delete nothing of it;
- git and certificates are there; compilers and headers only where `system_packages` names them;
- the recipe's `env` holds in steps and in the finished environment.
"""

import json
from collections.abc import Iterator

from envfarm.core.errors import ImageError
from envfarm.core.recipe import Recipe, Toolchain

AGENT = 1000
VENV = "/opt/venv"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASES = {
    "python": "python:{minor}-slim",
    "node": "node:{major}",
    "go": "golang:{minor}",
    "rust": "rust:{minor}",
    "java": "eclipse-temurin:{major}",
}
"""Toolchain to official image."""
OTHER_BASE = "debian:bookworm-slim"
ALWAYS = ("ca-certificates", "git")
BUILD_SETTINGS = {
    "UV_COMPILE_BYTECODE": "1",
    "UV_LINK_MODE": "copy",
    "UV_PYTHON_DOWNLOADS": "never",
    "UV_NO_PROGRESS": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
"""Variables of every step, local ones too; they do not stay in the environment. Byte code is compiled by uv: a box's layer is read-only."""
CERTIFICATES = "/etc/envfarm-certificates.pem"
CHUNK = 60_000
"""Characters of one argument: Linux allows 128 KiB, and one of these may take two bytes or more."""


def base_image(toolchain: Toolchain) -> str:
    """The official image that a toolchain comes in."""
    minor = ".".join(toolchain.version.split(".")[:2])
    return BASES.get(toolchain.name, OTHER_BASE).format(minor=minor, major=toolchain.version.split(".")[0])


def environment_variables(recipe: Recipe, *, python: str) -> dict[str, str]:
    """What every command in a finished environment sees; `python` is the interpreter's path there, empty for another language."""
    path = f"{VENV}/bin:{SYSTEM_PATH}"
    if python and python.rpartition("/")[0] not in SYSTEM_PATH.split(":"):
        path = f"{VENV}/bin:{python.rpartition('/')[0]}:{SYSTEM_PATH}"
    known = {"PATH": path, "LANG": "C.UTF-8", **({"PYTHON": python} if python else {})}
    return {**known, **recipe.env}


def python_in_image(toolchain: Toolchain) -> str:
    """`$PYTHON` in the official image; empty for another language."""
    minor = ".".join(toolchain.version.split(".")[:2])
    return f"/usr/local/bin/python{minor}" if toolchain.name == "python" else ""


def render(
    recipe: Recipe,
    *,
    checkout: str | None,
    uv_version: str,
    base: str | None = None,
    arguments: tuple[str, ...] = (),
    certificates: str | None = None,
) -> str:
    """A whole Dockerfile.

    `checkout` names the checkout's archive in the build context; None renders the shared layer alone. `base` replaces the official
    image, by digest for instance. `arguments` are names of build arguments that the steps may use, `certificates` a PEM file of the
    context that they trust; neither stays in the image. Raises `ImageError` for what no Dockerfile can say.
    """
    _check(recipe)
    base = base or base_image(recipe.toolchain)
    parts = [
        f"# layer {recipe.layer_digest}; dependencies as of {recipe.resolved_at.date().isoformat()}",
        *_tools(recipe, base, uv_version, arguments=arguments, certificates=certificates),
        *_ground(recipe, base),
        "",
        "FROM ground AS dependencies",
        *_arguments(arguments, certificates),
        *(f"ARG {name}={value}" for name, value in BUILD_SETTINGS.items()),
        "COPY --from=tools /tools/bin/uv /usr/local/bin/uv",
        f"USER {AGENT}:{AGENT}",
        "WORKDIR /opt",
        *(line for path, text in sorted(recipe.files.items()) for line in _file(path, text)),
        *(line for step in recipe.dependencies for line in _step(step.run, step.why)),
        "",
        "FROM ground AS layer",
        f"COPY --from=dependencies --chown={AGENT}:{AGENT} /opt /opt",
        f"USER {AGENT}:{AGENT}",
        f"WORKDIR {recipe.work_dir}",
    ]
    if checkout is not None:
        parts += [
            "",
            "FROM layer",
            f"ADD {json.dumps([checkout, '/'])}",
            "COPY --from=tools /tools/bin/uv /usr/local/bin/uv",
            *(f"ARG {name}={value}" for name, value in {**BUILD_SETTINGS, "UV_OFFLINE": "1"}.items()),
            *(line for step in recipe.project for line in _step(step.run, step.why)),
        ]
    return "\n".join([*parts, ""])


def render_workshop(
    recipe: Recipe, *, layer: str, uv_version: str, arguments: tuple[str, ...] = (), certificates: str | None = None
) -> str:
    """A Dockerfile that adds uv to a built layer's image, for running project steps; it is no environment of an agent."""
    tools = _tools(recipe, base_image(recipe.toolchain), uv_version, arguments=arguments, certificates=certificates)
    return "\n".join([*tools, "", f"FROM {layer}", "COPY --from=tools /tools/bin/uv /usr/local/bin/uv", ""])


def _tools(recipe: Recipe, base: str, uv_version: str, *, arguments: tuple[str, ...], certificates: str | None) -> Iterator[str]:
    """A stage that holds uv, on an interpreter that its package accepts; what it was given does not reach the image."""
    modern = recipe.toolchain.name == "python" and int(recipe.toolchain.version.split(".")[1]) >= 8  # noqa: PLR2004 - uv's oldest
    yield f"FROM {base if modern else base_image(Toolchain(name='python', version='3.12'))} AS tools"
    yield from _arguments(arguments, certificates)
    yield f"RUN python3 -m pip install --no-cache-dir --target /tools uv=={uv_version}"


def _ground(recipe: Recipe, base: str) -> Iterator[str]:
    """The stage that everything stands on: system packages, the agent, variables."""
    packages = " ".join(dict.fromkeys((*ALWAYS, *recipe.system_packages)))
    yield ""
    yield f"FROM {base} AS ground"
    yield "RUN apt-get update && apt-get install -y --no-install-recommends \\"
    yield f"    {packages} \\"
    yield "    && rm -rf /var/lib/apt/lists/*"
    owned = json.dumps(["sh", "-c", 'mkdir -p "$@" && chown 1000:1000 "$@"', "sh", "/opt", "/home/agent", recipe.work_dir])
    yield f"RUN grep -q '^agent:' /etc/passwd || {{ echo agent:x:{AGENT}: >> /etc/group && \\"
    yield f"    echo agent:x:{AGENT}:{AGENT}::/home/agent:/bin/sh >> /etc/passwd; }}"
    yield f"RUN {owned}"
    variables = environment_variables(recipe, python=python_in_image(recipe.toolchain))
    for name, value in {**variables, "HOME": "/home/agent"}.items():
        yield f"ENV {name}={_quoted(value)}"


def _arguments(arguments: tuple[str, ...], certificates: str | None) -> Iterator[str]:
    if certificates is not None:
        yield f"COPY {json.dumps([certificates, CERTIFICATES])}"
    yield from (f"ARG {name}" for name in arguments)


def _file(path: str, text: str) -> Iterator[str]:
    """A text file, in arguments of a shell that does not read them as code."""
    chunks = [text[at : at + CHUNK] for at in range(0, len(text), CHUNK)] or [""]
    for number, chunk in enumerate(chunks):
        write = 'mkdir -p "${0%/*}" && printf %s "$1" > "$0"' if number == 0 else 'printf %s "$1" >> "$0"'
        yield f"RUN {json.dumps(['sh', '-c', write, path, chunk], ensure_ascii=False)}"


def _step(run: str, why: str) -> Iterator[str]:
    if why:
        yield f"# {' '.join(why.split())}"
    yield f"RUN {json.dumps(['sh', '-c', run], ensure_ascii=False)}"


def _quoted(value: str) -> str:
    for special in ("\\", '"', "$"):
        value = value.replace(special, "\\" + special)
    return f'"{value}"'


def _check(recipe: Recipe) -> None:
    """Refuse what would end a line of a Dockerfile, or say something else than it seems."""
    for name, value in recipe.env.items():
        if not name.isidentifier() or "\n" in value or "\r" in value or "\0" in value:
            raise ImageError(f"the recipe's variable {name!r} cannot stand in a Dockerfile")
    for package in recipe.system_packages:
        if not package.replace("-", "").replace("+", "").replace(".", "").isalnum() or package.startswith("-"):
            raise ImageError(f"{package!r} is not the name of a Debian package")
    for path in (*recipe.files, recipe.work_dir):
        if not path.startswith("/") or ".." in path.split("/") or any(c.isspace() for c in path):
            raise ImageError(f"{path!r} is not an absolute path without spaces")
