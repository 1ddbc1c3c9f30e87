"""A scripted box whose commands run on this machine, to test searches that use the shell and programs."""

import asyncio
import subprocess

from envfarm.core.image import Environment, ImageRef
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.testing.scripted_box import ScriptedBox


async def _run_here(_: ScriptedBox, request: ExecRequest) -> ExecResult:
    argv = list(request.argv) or ["/bin/sh", "-c", request.shell or ""]
    done = await asyncio.to_thread(subprocess.run, argv, input=request.stdin or b"", capture_output=True, check=False, timeout=20)
    return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr, duration_s=0.1)


def machine_box() -> ScriptedBox:
    """A box that is this machine."""
    environment = Environment(image=ImageRef(kind="host", digest="sha256:" + "0" * 64))
    return ScriptedBox(SandboxSpec(environment=environment), answer=_run_here)
