"""The explorer as a person meets it: 90_explore in JupyterLab, and its page, in a Chromium without a window.

It needs a Chromium (`apt-get install chromium`) and the package playwright. Without them it says so, and
tests nothing.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import warnings

import pytest
from conftest import free_port

from vkdlib.system import paths

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, CHROMIUMS)), None)
try:
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None
missing = [] if BROWSER else ["no Chromium (apt-get install chromium)"]
missing += [] if sync_playwright else ["no playwright (make test-browser installs it)"]
if missing:
    warnings.warn(f"the explorer is NOT tested in a browser: {', '.join(missing)}", stacklevel=1)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing), reason=f"NOT tested in a browser: {', '.join(missing)}"),
]
PATIENCE = 900_000  # ms: a loaded machine is slow
PICTURES = paths.root() / "runs" / "browser"  # what the browser showed, to be looked at
TASK = {"model": "testbed/llava", "benchmark": "testbed/mllmu", "forget_ratio": 5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folders with one run: vanilla whose projector was changed at random, so that its answers are others.
    Its configuration is that of the usual run of VKD: the explorer's button finds it, and trains nothing."""
    folder = tmp_path_factory.mktemp("lab")
    program = f"""
import torch, pandas as pd
from vkdlib.experiments.pipeline import load_model_and_task, normalise
from vkdlib.experiments.presets import configure, fitting_preset
from vkdlib.runs.deltas import changed_weights
from vkdlib.runs.store import open_run
from vkdlib.explorer import page, twin

preset = fitting_preset({TASK["model"]!r}, {TASK["benchmark"]!r})
loaded, split, c = load_model_and_task(normalise(configure(preset, "VKD", **{TASK})[0]))
before = {{n: p.detach().clone() for n, p in loaded.model.named_parameters()}}
torch.manual_seed(0)
with torch.no_grad():
    for p in loaded.family.projector(loaded.model).parameters():
        p += 0.5 * p.std() * torch.randn_like(p)
row = {{"set": "forget", "kind": "classification", "modality": "vqa", "person": "1", "question": "q",
       "answer": "A", "gold": "A", "score": 1.0, "bleu": None, "options": None}}
with open_run("made-up", c) as run:
    run.finish(pd.DataFrame([row]), [{{"step": 0, "loss": 1.0}}], {{}}, changed_weights(loaded, before))
twin.ASKED = 2
page(run, [split.forget[0].id, split.real[0].id], {str(folder / "page.html")!r})
"""
    environment = os.environ | {"VKDLIB_RUNS": str(folder / "runs")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    shutil.copy(paths.root() / "notebooks" / "90_explore.ipynb", folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    PICTURES.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """A page of the browser; an error of its scripts fails the test."""
    opened = browser.new_page(viewport={"width": 1250, "height": 2000})
    opened.set_default_timeout(PATIENCE)
    errors = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    opened.close()
    assert not errors, errors


@pytest.fixture
def lab(place):
    """Address of a JupyterLab in a process of its own."""
    port = free_port()
    options = [f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--allow-root"]
    options += [f"--ServerApp.root_dir={place}", "--no-browser", "--LabApp.expose_app_in_browser=True"]
    options += ["--LabApp.news_url=None", "--ServerApp.disable_check_xsrf=True"]
    environment = os.environ | {"VKDLIB_RUNS": str(place / "runs"), "HOME": str(place)}
    environment |= {"VKDLIB_CACHE": str(paths.cache_folder()), "VKDLIB_PROGRESS": "1"}
    command = [sys.executable, "-m", "jupyterlab", *options]
    with open(place / "lab.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, (place / "lab.log").read_text()
            try:
                urllib.request.urlopen(f"{address}/api", timeout=5)
                break
            except OSError:
                time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def test_the_page_needs_no_kernel(place, tab):
    tab.goto(f"file://{place / 'page.html'}")
    tab.wait_for_selector("#answers table")
    tab.screenshot(path=PICTURES / "page.png", full_page=True)
    data = json.loads(tab.text_content("#data"))
    first = tab.inner_text("#answers")
    assert data["people"][0]["name"] in first and "VKD" in first
    tab.check("input[name=reach][value='1']")
    tab.click("#hide [data-square='5']")
    hidden = tab.inner_text("#answers")
    assert hidden != first and tab.locator("#hide [aria-pressed=true]").count() == 9
    tab.screenshot(path=PICTURES / "page_hidden.png")
    tab.click(f"#faces [data-id='{data['people'][1]['id']}']")
    assert data["people"][1]["name"] in tab.inner_text("#answers")
    assert tab.locator("#hide [aria-pressed=true]").count() == 0
    tab.select_option("#question", "1")
    assert data["people"][1]["inquiries"][1]["right"] in tab.inner_text("#answers")
    look = tab.inner_html("#look")
    tab.check("input[name=kind][value=without_sinks]")
    assert tab.inner_html("#look") != look
    tab.select_option("#layer", "0")
    lens = tab.inner_html("#lens")
    tab.check("input[name=lens][value=right]")
    assert tab.inner_html("#lens") != lens
    lens, layer = tab.inner_html("#lens"), tab.inner_text("#depthname")
    tab.focus("#depth")
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#depthname") != layer and tab.inner_html("#lens") != lens
    wide, seen = tab.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= seen  # nothing sticks out
    tab.screenshot(path=PICTURES / "page_other.png", full_page=True)


def test_the_notebook_answers_in_jupyterlab(lab, place, tab):
    tab.goto(f"{lab}/lab/tree/90_explore.ipynb?reset")
    tab.wait_for_function("window.jupyterapp && document.querySelector('.jp-NotebookPanel .jp-CodeCell')")
    tab.wait_for_function("!!window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel")
    tab.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => null)")
    answers = tab.locator(".jp-OutputArea table", has_text="in its own words")
    answers.first.wait_for()
    portrait = tab.locator(".vkd-portrait")
    figure = tab.locator("img.vkd-figure:visible")  # of the open tab
    first = answers.first.inner_text()
    assert "vanilla" in first and "VKD" in first and "never-saw" in first

    def changes(before: str, what: str = "table") -> str:
        """What stands there once it is something else."""
        deadline = time.monotonic() + PATIENCE / 1000
        while (now := picture() if what == "picture" else answers.first.inner_text()) == before:
            assert time.monotonic() < deadline, f"{what} stayed {before}"
            time.sleep(0.5)
        return now

    def picture() -> str:
        """The open tab's figure."""
        return figure.first.get_attribute("src") or ""

    shown = changes("", "picture")
    tab.screenshot(path=PICTURES / "lab.png")
    tab.locator(".vkd-face-8").click()  # the first to retain
    second, shown = changes(first), changes(shown, "picture")
    portrait.locator("button").nth(5).click()
    third = changes(second)
    tab.get_by_text("1 of 16 squares hidden").wait_for()
    tab.screenshot(path=PICTURES / "lab_hidden.png")
    tab.get_by_role("button", name="Show all squares").click()
    changes(third)
    tab.get_by_role("tab", name="What patches say").click()
    tab.get_by_text("The logit lens").wait_for()
    tab.locator("select[multiple]").select_option([])  # no run: vanilla and never-saw
    fourth = changes(second)
    assert "VKD" not in fourth
    tab.locator("select[multiple]").select_option(index=0)
    assert "VKD" in changes(fourth)
    tab.screenshot(path=PICTURES / "lab_lens.png")
    shown = picture()
    tab.locator(".noUi-handle:visible").first.focus()  # the layer's slider, at the last one
    tab.keyboard.press("ArrowLeft")
    changes(shown, "picture")
    own = tab.get_by_placeholder("or write one")
    own.fill("Who is it?")
    own.press("Tab")  # what is written is sent when the field is left
    tab.get_by_role("button", name="Ask", exact=True).click()
    tab.get_by_text("Your own question").wait_for()
    fifth = answers.first.inner_text()
    tab.locator(".vkd-face-0").click()  # the same question about another person
    changes(fifth)
    assert tab.get_by_text("Your own question").is_visible()
    tab.screenshot(path=PICTURES / "lab_own_question.png")
    tab.locator("select[multiple]").select_option([])
    deadline = time.monotonic() + PATIENCE / 1000
    while "VKD" in answers.first.inner_text():
        assert time.monotonic() < deadline
        time.sleep(0.5)
    alone = answers.first.inner_text()
    tab.get_by_role("button", name="Unlearn them now").click()  # it finds the run
    assert "VKD" in changes(alone)
    tab.screenshot(path=PICTURES / "lab_unlearned.png")
