"""A recipe renders to a Dockerfile whose steps are the recipe's own text."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core.errors import ImageError
from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.images.build_variables import for_builds, on_loopback, with_credentials
from envfarm.images.dockerfile import CHUNK, base_image, environment_variables, render

RECIPE = Recipe(
    language="python",
    toolchain=Toolchain(name="python", version="3.11"),
    system_packages=("libxml2-dev", "git"),
    env={"TZ": "UTC", "ODD": 'a "b" $c \\'},
    files={"/opt/envfarm/lock.txt": "made-up==1.0\n"},
    dependencies=(
        InstallStep(run='uv venv --python "$PYTHON" /opt/venv', why="pyproject.toml"),
        InstallStep(run="uv pip install -r /opt/envfarm/lock.txt\necho 'two lines'"),
    ),
    project=(InstallStep(run="uv pip install --no-deps -e ."),),
    resolved_at=datetime(2024, 5, 1, tzinfo=UTC),
)


def runs(text: str) -> list[list[str]]:
    return [json.loads(line.removeprefix("RUN ")) for line in text.splitlines() if line.startswith("RUN [")]


def test_every_step_is_there_in_order_as_it_is_written() -> None:
    steps = [argv[2] for argv in runs(render(RECIPE, checkout="checkout.tar", uv_version="1.2")) if argv[:2] == ["sh", "-c"]]
    assert steps[-3:] == [step.run for step in (*RECIPE.dependencies, *RECIPE.project)]


def test_the_whole_reads_from_base_to_checkout() -> None:
    lines = render(RECIPE, checkout="checkout.tar", uv_version="1.2").splitlines()
    stages = [line for line in lines if line.startswith("FROM")]
    assert stages == [
        "FROM python:3.11-slim AS tools",
        "FROM python:3.11-slim AS ground",
        "FROM ground AS dependencies",
        "FROM ground AS layer",
        "FROM layer",
    ]
    assert 'ADD ["checkout.tar", "/"]' in lines
    assert "    ca-certificates git libxml2-dev \\" in lines
    assert 'ENV PYTHON="/usr/local/bin/python3.11"' in lines
    assert "# pyproject.toml" in lines


def test_the_shared_layer_alone_has_no_checkout_and_no_project_step() -> None:
    text = render(RECIPE, checkout=None, uv_version="1.2")
    assert "ADD" not in text
    assert "--no-deps" not in text


def test_variables_are_not_expanded_and_files_are_not_read_as_code() -> None:
    text = render(RECIPE, checkout=None, uv_version="1.2")
    assert r'ENV ODD="a \"b\" \$c \\"' in text.splitlines()
    assert ["/opt/envfarm/lock.txt", "made-up==1.0\n"] in [argv[3:] for argv in runs(text)]


def test_a_long_file_is_written_in_parts() -> None:
    long = RECIPE.model_copy(update={"files": {"/opt/lock": "é" * (CHUNK * 2 + 5)}})
    parts = [argv for argv in runs(render(long, checkout=None, uv_version="1.2")) if argv[3:4] == ["/opt/lock"]]
    assert [len(argv[4]) for argv in parts] == [CHUNK, CHUNK, 5]
    assert [">>" in argv[2] for argv in parts] == [False, True, True]
    assert max(len(argv[4].encode()) for argv in parts) < 128 * 1024


def test_build_arguments_and_certificates_stay_out_of_the_last_stage() -> None:
    text = render(RECIPE, checkout="c.tar", uv_version="1.2", arguments=("PIP_INDEX_URL",), certificates="ca.pem")
    before, after = text.split("FROM ground AS layer")
    assert before.count("ARG PIP_INDEX_URL") == 2
    assert before.count('COPY ["ca.pem"') == 2
    assert "PIP_INDEX_URL" not in after
    assert "ca.pem" not in after


def test_the_same_recipe_renders_alike_whatever_its_date() -> None:
    later = RECIPE.model_copy(update={"resolved_at": datetime(2024, 6, 1, tzinfo=UTC)})
    first, second = (render(r, checkout=None, uv_version="1").splitlines() for r in (RECIPE, later))
    assert first[1:] == second[1:]


@pytest.mark.parametrize(
    ("name", "version", "base"),
    [
        ("python", "3.9.18", "python:3.9-slim"),
        ("node", "20.1", "node:20"),
        ("go", "1.24", "golang:1.24"),
        ("cobol", "1", "debian:bookworm-slim"),
    ],
)
def test_the_base_is_the_toolchains_official_image(name: str, version: str, base: str) -> None:
    assert base_image(Toolchain(name=name, version=version)) == base


def test_an_old_interpreter_gets_uv_from_a_newer_one() -> None:
    old = RECIPE.model_copy(update={"toolchain": Toolchain(name="python", version="3.7")})
    text = render(old, checkout=None, uv_version="1.2")
    assert "FROM python:3.12-slim AS tools" in text
    assert "FROM python:3.7-slim AS ground" in text


@pytest.mark.parametrize(
    "bad",
    [
        {"env": {"A": "x\nRUN evil"}},
        {"env": {"A B": "x"}},
        {"system_packages": ("git && evil",)},
        {"system_packages": ("-o=x",)},
        {"files": {"/opt/../etc/x": ""}},
        {"files": {"opt/x": ""}},
        {"work_dir": "/a b"},
    ],
)
def test_what_would_say_something_else_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ImageError):
        render(RECIPE.model_copy(update=bad), checkout=None, uv_version="1.2")


def test_the_environments_path_finds_the_venv_then_the_interpreter() -> None:
    env = environment_variables(RECIPE, python="/opt/python-3.11.7/bin/python3.11")
    assert env["PATH"].startswith("/opt/venv/bin:/opt/python-3.11.7/bin:/usr/local/")
    assert (env["PYTHON"], env["TZ"]) == ("/opt/python-3.11.7/bin/python3.11", "UTC")
    assert environment_variables(RECIPE, python="/usr/bin/python3.11")["PATH"].startswith("/opt/venv/bin:/usr/local/sbin")


def test_a_build_sees_where_packages_come_from_and_no_paths_of_the_host(tmp_path: Path) -> None:
    pem = tmp_path / "ca.pem"
    pem.write_text("certificates")
    host = {
        "HTTPS_PROXY": "http://proxy:3128",
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_FIND_LINKS": "/opt/wheels",
        "UV_CACHE_DIR": "/home/ann/.cache/uv",
        "PIP_TARGET": "x",
        "UV_INDEX_LOCAL": "file:///x",
        "SSL_CERT_FILE": str(pem),
        "SSL_CERT_DIR": "/etc/ssl/certs",
    }
    env, certificates = for_builds(host, certificates_at="/in/box.pem")
    assert certificates == pem
    assert env.pop("SSL_CERT_FILE") == env.pop("PIP_CERT") == "/in/box.pem"
    assert {name for name in env if "CERT" not in name and "CA" not in name} == {"HTTPS_PROXY", "PIP_INDEX_URL"}
    assert for_builds({}, certificates_at="/x") == ({}, None)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("https://ann:s3cret@index.example/simple", "https://index.example/simple"),
        ("https://token@index.example/simple", "https://index.example/simple"),
        ("https://:s3cret@index.example:8443/simple", "https://index.example:8443/simple"),
        ("https://ann:a=b,c|d@index.example/", "https://index.example/"),
        ("https://ann:a@b#c?d@index.example/", "https://index.example/"),
        ("one=https://ann:s3cret@a.example/x two=https://b.example/@scope/y", "one=https://a.example/x two=https://b.example/@scope/y"),
        ("ann:s3cret@proxy:3128", "proxy:3128"),
        ("https://index.example/@scope/simple", "https://index.example/@scope/simple"),
        ("sparse+https://ann:s3cret@crates.example/index/", "sparse+https://crates.example/index/"),
        ("https://ann:s3cret@goproxy.example,direct", "https://goproxy.example,direct"),
    ],
)
def test_no_credentials_of_an_address_reach_a_build(value: str, seen: str) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "UV_INDEX", "https_proxy", "GOPROXY"):
        assert for_builds({name: value}, certificates_at="/x").env == {name: seen}
        assert with_credentials({name: value}) == ((name,) if value != seen else ())


@pytest.mark.parametrize(
    "value",
    [
        "http://127.0.0.1:3141/root/pypi",
        "localhost:3128",
        "http://[::1]:8080",
        "one=http://mirror.localhost/simple",
        "https://goproxy.example|http://127.1:80",
        "http://ann:s3cret@LOCALHOST:1",
    ],
)
def test_an_index_or_proxy_on_the_loopback_is_known(value: str) -> None:
    assert on_loopback({"HTTPS_PROXY": value}) == ("HTTPS_PROXY",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_PROXY", "localhost,127.0.0.1"),
        ("PIP_TRUSTED_HOST", "localhost"),
        ("HTTPS_PROXY", "http://notlocalhost:1"),
        ("UV_INDEX", "https://index.example/localhost/simple"),
        ("HTTPS_PROXY", "http://10.127.0.1:3128"),
    ],
)
def test_other_addresses_are_not_taken_for_the_loopback(name: str, value: str) -> None:
    assert on_loopback({name: value}) == ()
