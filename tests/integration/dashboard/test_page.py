"""The page in a real Chromium: by keyboard, on a phone, with texts that would rather be programs; and nothing goes anywhere else."""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from envfarm import dashboard
from envfarm.api.app import create_app
from envfarm.core.action import Bash, Finish
from envfarm.core.episode import PolicySpec
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import EpisodeRequest, RolloutRequest, StepRequest, TaskSelector
from envfarm.core.sampled import Sampled, SampledCall
from envfarm.policies.scripted import Scripted
from envfarm.stores.access import SCOPES
from envfarm.testing.factories import make_scored
from envfarm.testing.served import served
from envfarm.testing.small_service import A, SmallService, rewards
from tests.integration.api.queue_pressure import Turnstile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title='taken'</script><img src=//elsewhere.invalid/x onerror=alert(1)>\u202egnp.exe\x1b[31m"
LONG = HOSTILE + "x" * 25_000
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install -y chromium"),
]
BASICS = """() => {
  const wrong = [];
  for (const e of document.querySelectorAll('input')) if (!e.labels.length && !e.ariaLabel) wrong.push(e.outerHTML);
  for (const e of document.querySelectorAll('a, button')) if (!e.hidden && !(e.textContent.trim() || e.ariaLabel)) wrong.push(e.outerHTML);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  if (new Set(ids).size !== ids.length) wrong.push('an id stands twice');
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
  for (const tag of ['main', 'nav', 'header']) if (document.querySelectorAll(tag).length !== 1) wrong.push(`not one ${tag}`);
  if (!document.documentElement.lang) wrong.push('no language');
  const linear = (n) => n <= .03928 ? n / 12.92 : ((n + .055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map((n) => linear(n / 255));
    return .2126 * r + .7152 * g + .0722 * b; };
  const behind = (e) => { while (e && getComputedStyle(e).backgroundColor === 'rgba(0, 0, 0, 0)') e = e.parentElement;
    return getComputedStyle(e ?? document.body).backgroundColor; };
  for (const e of document.querySelectorAll('main *, nav a')) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) wrong.push(`contrast of ${e.outerHTML.slice(0, 120)}`);
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`wider than the screen: ${document.documentElement.scrollWidth}`);
  return wrong;
}"""
"""What an accessibility checker looks at first."""


@dataclass
class Shown:
    """A page of a served farm, and what it did that it should not."""

    farm: SmallService
    page: Page
    url: str
    token: str
    wrong: list[str] = field(default_factory=list)

    async def open(self, place: str, title: str) -> None:
        await self.page.goto(f"{self.url}/#token={self.token}")
        await expect(self.page.locator("h1")).to_have_text("Live episodes")
        await self.page.goto(f"{self.url}/#/{place}")
        await expect(self.page.locator("h1")).to_have_text(title)

    async def play(self, members: int) -> str:
        asked = RolloutRequest(tasks=TaskSelector(names=("made-up/t0",)), group_size=members, policy=PolicySpec(name="nop"))
        rollout = await self.farm.service.submit(A, asked)
        async for _ in self.farm.service.events(A, rollout.id):
            pass
        return rollout.id


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        started = await driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        await started.close()


@pytest.fixture
async def shown(browser: Browser, tmp_path: Path) -> AsyncIterator[Shown]:
    farm = SmallService(tmp_path, retries=1)
    farm.grader.outcomes += rewards(make_scored(1.0), make_scored(0.0), Invalid("grader", retryable=False, detail=HOSTILE)).outcomes
    farm.policy = lambda _: Scripted((Bash(command=LONG), Finish(message=HOSTILE)))
    await farm.open(tasks=4)
    token = await farm.access.issue(A, "t", SCOPES)
    app = create_app(farm.services)
    dashboard.install(app)
    async with AsyncExitStack() as held:
        await held.enter_async_context(farm.playing())
        url = await held.enter_async_context(served(app))
        page = await browser.new_page()
        made = Shown(farm, page, url, token)
        page.on("console", lambda m: made.wrong.append(m.text) if m.type in {"error", "warning"} else None)
        page.on("pageerror", lambda e: made.wrong.append(str(e)))
        page.on("request", lambda r: None if r.url.startswith(url) and token not in r.url else made.wrong.append(r.url))
        yield made
        await page.close()
    await farm.close()


async def test_an_episode_is_reached_by_keyboard_and_hostile_text_is_text(shown: Shown) -> None:
    rollout = await shown.play(3)
    page = shown.page
    await shown.open("rollouts", "Rollouts")
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text(rollout)
    await expect(page.locator(".member")).to_have_count(3)
    assert sorted(await page.locator(".member").all_inner_texts()) == ["0", "1", "invalid (grader)"]
    await page.locator(".member.invalid").click()
    await expect(page.locator("main")).to_contain_text("invalid, and not a zero")
    await expect(page.locator("main")).to_contain_text("<script>document.title='taken'</script>")
    await expect(page.locator("main")).to_contain_text("\\u202egnp.exe\\u001b")
    assert await page.locator("main script, main img").count() == 0
    await page.get_by_role("button", name="Show more (").first.click()
    await page.keyboard.press("Escape")
    await expect(page.locator("h1")).to_have_text(rollout)
    await page.keyboard.press("?")
    await expect(page.locator("dialog")).to_be_visible()
    assert shown.wrong == []


async def test_what_a_programs_calls_sampled_is_shown(shown: Shown) -> None:
    rollout = await shown.play(1)
    ((info,), _) = await shown.farm.lists.episodes(A, limit=1)
    said = {"finish_reason": "stop", "engine": "e", "text": HOSTILE}
    calls = (
        SampledCall(index=0, prompt_length=2, added_ids=(1, 2), completion_ids=(3, 4), logprobs=(-0.5, -3.0), **said),
        SampledCall(index=1, parent=0, prompt_length=5, added_ids=(5,), completion_ids=(6,), logprobs=(-0.1,), **said),
    )
    await shown.farm.trajectories.append(info.id, Sampled(episode=info.id, calls=calls, failed_calls=1))
    await shown.open(f"episode/{info.id}", info.id)
    await expect(shown.page.locator("main")).to_contain_text("Calls of the model (2)")
    second = shown.page.get_by_label("call 2")
    await expect(second).to_contain_text("behind call 1")
    await expect(second).to_contain_text("1 prompt tokens added, 1 sampled")
    assert await shown.page.locator("main script, main img").count() == 0
    assert await shown.page.evaluate(BASICS) == []
    assert (shown.wrong, info.rollout) == ([], rollout)


async def test_a_list_is_filtered_and_paged(shown: Shown) -> None:
    await shown.play(130)
    await shown.open("episodes", "Episodes")
    rows = shown.page.locator("tbody tr")
    await expect(rows).to_have_count(100)
    await shown.page.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(130)
    await shown.page.locator("main").focus()
    await shown.page.keyboard.press("/")
    await shown.page.keyboard.type(".0007")
    await expect(shown.page.locator("tbody tr:visible")).to_have_count(1)
    assert shown.wrong == []


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_view_is_readable(shown: Shown, size: dict[str, int], scheme: str, tmp_path: Path) -> None:
    rollout = await shown.play(3)
    await shown.page.set_viewport_size({"width": size["width"], "height": size["height"]})
    await shown.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    (episode, *_), _ = await shown.farm.services.lists.episodes(A, limit=1)
    views = {"": "Live episodes", "rollouts": "Rollouts", f"rollout/{rollout}": rollout, "episodes": "Episodes", "tasks": "Tasks"}
    views |= {f"episode/{episode.id}": episode.id, f"task/{episode.task}": "made-up/t0", "use": "Use", "api": "API"}
    for place, title in views.items():
        await shown.open(place, title)
        assert await shown.page.evaluate(BASICS) == [], place
        await shown.page.screenshot(path=tmp_path / f"{title.replace('/', '-')}.png", full_page=True)
    assert shown.wrong == []


async def test_a_driven_episode_goes_on_before_ones_eyes_and_what_was_opened_stays_open(shown: Shown) -> None:
    episode = (await shown.farm.steps.create(A, EpisodeRequest(task="made-up/t1"), key=None, wait_s=30.0)).id
    await shown.open(f"episode/{episode}", episode)
    await expect(shown.page.locator("dl.facts")).to_contain_text("600 s")
    told = shown.page.locator("details").first
    await told.locator("summary").click()
    await shown.farm.steps.step(A, episode, StepRequest(step_id="1", action=Bash(command="ls")), wait_s=30.0)
    await expect(shown.page.locator("section.step")).to_have_count(1, timeout=20_000)
    await expect(told).to_have_attribute("open", "")
    assert shown.wrong == []


async def test_a_rollout_whose_stream_breaks_off_is_followed_all_the_same(shown: Shown) -> None:
    gate = Turnstile()
    shown.farm.policy = gate
    asked = RolloutRequest(tasks=TaskSelector(names=("made-up/t0",)), group_size=1, policy=PolicySpec(name="nop"))
    rollout = (await shown.farm.service.submit(A, asked)).id
    broken: list[str] = []

    async def once(route: Route) -> None:
        broken.append(route.request.url)
        await (route.abort() if len(broken) == 1 else route.continue_())

    await shown.page.route("**/events", once)
    await shown.open(f"rollout/{rollout}", rollout)
    await expect(shown.page.locator("dl.facts")).to_contain_text("active")
    gate.let(1)
    await expect(shown.page.locator("dl.facts")).to_contain_text("done", timeout=30_000)
    assert len(broken) > 1


async def test_the_api_is_told_offline_and_a_bad_token_is_asked_for_again(shown: Shown) -> None:
    await shown.page.goto(f"{shown.url}/docs")
    await expect(shown.page.locator("main")).to_contain_text("/v1/rollouts/{rollout}/events")
    assert shown.wrong == []
    await shown.page.goto(f"{shown.url}/#token=wrong")
    await expect(shown.page.get_by_role("alert")).to_have_text("The token is not known here.")
    await shown.page.get_by_label("Token").fill(shown.token)
    await shown.page.keyboard.press("Enter")
    await expect(shown.page.locator("h1")).to_have_text("Live episodes")
