"""Find and start programs from outside the project: Node.js and Chromium."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
ALONE: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--no-proxy-server",
)  # fmt: skip
"""Chromium's options: run as root, and open only the connections of its pages."""


def program(*names: str, package: str) -> str:
    """Return the path of the first of *names* that is installed; fail the test without one."""
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    pytest.fail(
        f"this needs {names[0]}: run make clients as root, or install {package} as your system does"
    )


def node() -> str:
    """Return the path of Node.js."""
    return program("node", package="Node.js (18 or newer) with npm")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run Chromium without a window, with a temporary profile."""
    path = program(*BROWSERS, package="Chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ALONE)
        try:
            yield browser
        finally:
            await browser.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """Run one Chromium for the tests of a module; each opens a window of its own, and closes it."""
    async with chromium() as running:
        yield running
