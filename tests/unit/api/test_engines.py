"""The list of engines over HTTP: what is read can be written back, and no key is seen."""

from pathlib import Path

import httpx

from envfarm.api.app import create_app
from envfarm.stores.access import SCOPES
from envfarm.testing.small_service import A, SmallService


async def test_what_was_read_is_written_back_with_its_keys_and_no_key_goes_to_another_address(tmp_path: Path) -> None:
    farm = SmallService(tmp_path)
    await farm.open(tasks=0)
    headers = {"Authorization": f"Bearer {await farm.access.issue(A, 't', SCOPES)}"}
    transport = httpx.ASGITransport(create_app(farm.services))
    async with httpx.AsyncClient(transport=transport, base_url="http://farm", headers=headers) as http:

        async def keys(*engines: dict[str, str]) -> list[str]:
            answer = await http.put("/v1/engines", json=list(engines))
            assert answer.status_code == 200
            assert all("api_key" not in engine for engine in answer.json())
            return [engine.api_key.get_secret_value() for engine in await farm.engines.get()]

        one, two = ({"name": name, "kind": "vllm", "url": f"http://{name}"} for name in "ab")
        assert await keys(one | {"api_key": "sk-a"}, two | {"api_key": "sk-b"}) == ["sk-a", "sk-b"]
        read = (await http.get("/v1/engines")).json()
        assert await keys(*reversed(read)) == ["sk-b", "sk-a"]
        assert await keys(one | {"model": "m"}, two | {"url": "http://elsewhere"}, one | {"name": "c"}) == ["sk-a", "", ""]
        assert await keys(one | {"api_key": ""}) == [""]
        assert await keys(one) == [""]
    await farm.close()
