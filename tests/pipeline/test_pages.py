"""MLflow's pages in a real browser, as an engineer sees them who compares models.

`TEMPER_SHOTS=folder` saves screenshots.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from temper.config import load
from temper.ops import ui
from temper.ops.mlflow import model_versions, page_links, tracking_store
from temper.ops.project import Project
from tests.project import copy_project, free_port, tell

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.enable_socket,
    pytest.mark.skipif(
        not (BROWSER and DRIVER), reason="needs a browser: apt-get install chromium chromium-driver"
    ),
]
WAIT_S = 60
UNFOLD = "//a[starts-with(normalize-space(), '20')]/ancestor::*[contains(@class, 'ag-cell-wrapper')]//button"
"""XPath of the button that unfolds a pipeline run; the first match is the newest run."""
NEWEST = "quantized, version 2"


@pytest.fixture(scope="module")
def project(
    finished: Path, prefect_server: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    """A project with two versions, each with a different number of calibration images."""
    folder = copy_project(finished, tmp_path_factory.mktemp("pages") / "project")
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("calibration_images: 64", "calibration_images: 16"))
    tell(folder, "pipeline", environment=prefect_server)
    return Project.at(folder)


@pytest.fixture(scope="module")
def address(project: Project) -> Iterator[str]:
    port = free_port()
    command = next(command for command in ui.commands(project).values() if command[0] == "mlflow")
    command = [sys.executable, "-m", *command]
    command[command.index("--port") + 1] = str(port)
    environment = {**os.environ, **project.environment()}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as server:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/#"
        os.killpg(server.pid, 15)


class Reader:
    """A user at a browser, who opens pages, clicks and reads."""

    def __init__(self, address: str) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(BROWSER)
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--window-size=1900,1400",
        ):
            options.add_argument(argument)
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        self.address = address

    def open(self, page: str) -> None:
        self.driver.get("about:blank")
        self.driver.get(self.address + page)

    @property
    def text(self) -> str:
        """All text on the page; empty while the page is being redrawn."""
        from selenium.common.exceptions import WebDriverException

        try:
            return self.driver.find_element("tag name", "body").text
        except WebDriverException:
            return ""

    def read(self, *words: str, reload_s: float = WAIT_S) -> str:
        """Wait until the page contains all words; it is reloaded every `reload_s` seconds."""
        until, again = time.monotonic() + WAIT_S, time.monotonic() + reload_s
        while missing := [each for each in words if each not in (text := self.text)]:
            assert time.monotonic() < until, f"not on the page: {missing}; there is:\n{text}"
            if time.monotonic() > again:
                self.driver.refresh()
                again += reload_s
            time.sleep(0.3)
        return text

    def click(self, path: str, number: int = 0) -> None:
        """Click the element of an XPath as soon as it exists."""
        from selenium.common.exceptions import WebDriverException

        until = time.monotonic() + WAIT_S
        while True:
            try:
                self.driver.find_elements("xpath", path)[number].click()
                return
            except (WebDriverException, IndexError):
                assert time.monotonic() < until, f"cannot click {path}: {self.text}"
                time.sleep(0.3)

    def tick(self, number: int) -> None:
        """Tick a checkbox by script, since MLflow draws another element over it."""
        boxes = self.driver.find_elements("xpath", "//input[@type='checkbox']")
        self.driver.execute_script("arguments[0].click()", boxes[number])

    def newest(self) -> None:
        """Switch to the page that was opened last."""
        self.driver.switch_to.window(self.driver.window_handles[-1])

    def shoot(self, name: str) -> None:
        if folder := os.environ.get("TEMPER_SHOTS"):
            time.sleep(2)
            self.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


@pytest.fixture(scope="module")
def reader(address: str) -> Iterator[Reader]:
    reader = Reader(address)
    yield reader
    reader.driver.quit()


def version(project: Project, number: int) -> Any:
    found = model_versions.named(project, load(project.folder).project, version=number)
    assert found is not None
    return found


def unfold(reader: Reader) -> None:
    """Show the candidates of the newest pipeline run, unless MLflow shows them already."""
    reader.read("8 matching runs")
    time.sleep(2)
    if NEWEST not in reader.text:
        reader.click(UNFOLD)
    reader.read(NEWEST)


def test_runs_are_grouped_by_pipeline_run(reader: Reader):
    reader.open("/experiments/1/runs")
    reader.read("Run Name", "8 matching runs", "toys-multiclass (")
    unfold(reader)
    reader.read("teacher", "student", NEWEST)
    assert len(reader.driver.find_elements("xpath", UNFOLD)) == 2, (
        "each pipeline run folds its own candidates"
    )
    reader.shoot("runs")


def test_links_of_make_ui_show_the_columns_that_matter(reader: Reader, project: Project):
    client = tracking_store.connect(project)
    links = page_links.find_links(client, "toys-multiclass", "")
    reader.open(links["runs"].removeprefix("/#"))
    reader.read("accuracy", "stress/noise", "bytes", "latency_ms", "8 matching runs")
    reader.shoot("columns")
    reader.open(links["candidates of the last run"].removeprefix("/#"))
    reader.read("Comparing 3 Runs", "teacher", "student", NEWEST, "accuracy", reload_s=20)
    reader.shoot("candidates")


def test_two_versions_are_compared(reader: Reader):
    reader.open("/models/toys-multiclass")
    reader.read("Version 1", "Version 2", "@ champion", "@ challenger")
    reader.shoot("model")
    for number in range(1, 3):
        reader.tick(number)  # box 0 selects all
    reader.click("//button[@data-testid='compareButton']")
    # MLflow draws the page before it has loaded all runs, and calls the missing ones invalid.
    reader.read("Comparing 2 Versions", "calibration_images 64 16", "images_per_s", reload_s=20)
    # It shows only metrics that differ, and a score may happen to be equal.
    reader.click("//*[text()='Metrics']/following::*[@role='switch'][1]")
    reader.read("accuracy 0.", "latency_ms 0.", "stress/noise 0.")
    reader.shoot("compare")


def test_a_version_leads_to_its_run_its_data_and_its_card(reader: Reader, project: Project):
    reader.open("/models/toys-multiclass/versions/2")
    found = version(project, 2)
    reader.read("accuracy 0.", "% interval", "multiply-adds", "Gate: ", found.digest)
    reader.shoot("version")
    reader.click("//a[normalize-space()='Model card']")
    reader.newest()
    reader.read("card.html", "gate", "made-from")
    reader.shoot("card")
    reader.open("/models/toys-multiclass/versions/2")
    reader.click("//a[normalize-space()='quantized, version 2']")
    reader.read(
        "Datasets", "toys-multiclass (", "Registered models", "\nv2", "stress/noise", "calibration_images"
    )
    reader.shoot("run")


def test_charts_have_names(reader: Reader):
    reader.open("/experiments/1/runs")
    unfold(reader)
    reader.click("//a[normalize-space()='quantized, version 2']")
    reader.click("//*[@role='tab' and contains(., 'Model metrics')]")
    reader.read("illumination", "noise", "occlusion", "noise/gaussian", "occlusion/patch")
    reader.shoot("charts")
