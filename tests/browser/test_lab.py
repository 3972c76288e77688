"""A chapter runs in JupyterLab from the menu, without an error, and its figures move there too."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from ear import Ear
from playwright.sync_api import Page, expect
from test_book import ROOT

CHAPTER = "1-model/01-meet-llama-2.ipynb"
PATIENCE = 180  # seconds for a chapter that takes some 10 alone on a laptop


def without_outputs(source: Path, target: Path) -> None:
    """A copy of a notebook as if it had never been run, so that every output seen was made by the test."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    target.parent.mkdir(parents=True)
    nbformat.write(notebook, target)


@pytest.fixture
def lab(tmp_path) -> Iterator[str]:
    """Address of a JupyterLab of its own, whose folder holds the chapter."""
    without_outputs(ROOT / "book" / CHAPTER, tmp_path / "book" / CHAPTER)
    home = {
        "HOME": str(tmp_path),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "c"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "r"),
    }
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--ServerApp.port=8900", "--ServerApp.port_retries=99"]
    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", *options, *quiet, f"--ServerApp.root_dir={tmp_path / 'book'}"]
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(command, env={**os.environ, **home}, stdout=file, stderr=subprocess.STDOUT)
    try:
        yield address_in(log, server)
    finally:
        server.terminate()
        server.wait(timeout=30)


def address_in(log: Path, server: subprocess.Popen) -> str:
    """What the server prints as its address, token included."""
    for _ in range(600):
        found = re.search(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", log.read_text())
        if found:
            return found[0]
        if server.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


def saved(page: Page, path: Path) -> list[nbformat.NotebookNode]:
    """The code cells as JupyterLab saves them now."""
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1000)
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_chapter_runs_in_jupyterlab(chromium, lab, tmp_path):
    context = chromium.new_context(viewport={"width": 1400, "height": 1000})
    ear = Ear(context)
    page = context.new_page()
    page.goto(lab.replace("/lab?", f"/lab/tree/{CHAPTER}?"))
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)

    page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    for _ in range(PATIENCE):
        cells = saved(page, tmp_path / "book" / CHAPTER)
        if all(cell.execution_count for cell in cells):
            break
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [output for cell in cells for output in cell.outputs if output.output_type == "error"] == []
    assert sum(bool(cell.outputs) for cell in cells) >= 5

    figure = page.locator(".jp-OutputArea figure.mlf").first
    figure.scroll_into_view_if_needed()
    handle, said = figure.get_by_role("slider"), figure.locator("output")
    handle.focus()
    page.keyboard.press("Home")
    first = said.inner_text()
    page.keyboard.press("End")
    assert said.inner_text() != first
    expect(figure.locator(".mlf-frame img:visible")).to_have_count(1)

    quiz = page.locator(".jp-OutputArea .mlq")
    quiz.locator("input[data-right=yes]").first.check()
    quiz.get_by_role("button").first.click()
    expect(quiz.locator("[aria-live]").first).to_contain_text("✓ Right.")
    context.close()
    assert ear.remote_requests() == []
