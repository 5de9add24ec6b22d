"""A real browser, driven as a person would: clicks, keys, files in and out, screenshots. Nothing but a pipe to it.

with Browser(tmp_path) as browser:
    browser.open(page); browser.press("a"); browser.click("#save")
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Self

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-extensions",
)  # fmt: skip
PATIENCE = 60.0


class Browser:
    """One tab. `folder` has the profile and what is downloaded; with the same folder the browser remembers."""

    def __init__(self, folder: Path) -> None:
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        self._profile = folder / "profile"
        self._number = 0
        self._buffer = b""
        self.errors: list[str] = []  # what the page's script complained of

    def __enter__(self) -> Self:
        asked_read, self._ask = os.pipe()
        self._told, told_write = os.pipe()

        def wire() -> None:
            # Copies first: one of the two may have a number that the other is to get.
            one, two = os.dup(asked_read), os.dup(told_write)
            os.dup2(one, 3)
            os.dup2(two, 4)

        command = [str(BROWSER), *FLAGS, f"--user-data-dir={self._profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=wire, close_fds=False
        )
        os.close(asked_read)
        os.close(told_write)
        pages = [t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        found = self._call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.call(f"{domain}.enable")
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.downloads))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            self._call("Browser.close")
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._ask)
        os.close(self._told)

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """A command to the tab."""
        return self._call(method, self._session, **given)

    def _call(self, method: str, session: str = "", **given: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": given}
        os.write(self._ask, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == self._number:
                if "error" in heard:
                    raise RuntimeError(f"{method}: {heard['error']}")
                return heard["result"]

    def _hear(self) -> dict[str, Any]:
        until = time.monotonic() + PATIENCE
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._told], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._told, 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("the browser says nothing any more")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        heard = json.loads(line)
        if heard.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(heard["params"]["exceptionDetails"].get("exception", {}).get("description")))
        if heard.get("method") == "Log.entryAdded" and heard["params"]["entry"]["level"] == "error":
            self.errors.append(heard["params"]["entry"]["text"])
        return heard

    def open(self, page: Path) -> float:
        """Show a page; the seconds until it was loaded."""
        started = time.monotonic()
        self.run("window.left = true")
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.until("document.readyState === 'complete' && location.protocol === 'file:' && !window.left")
        seconds = time.monotonic() - started
        # A browser drops clicks and keys until a page was painted for the first time.
        self.run(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))"
        )
        return seconds

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            if time.monotonic() > end:
                raise RuntimeError(f"it never was so that {script}")
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """What a person reads there."""
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector: str) -> list[str]:
        """The same of all that fit."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)")

    def click(self, selector: str) -> None:
        """Scroll there and click on its middle."""
        name = json.dumps(selector)
        self.run(f"document.querySelector({name}).scrollIntoView({{block: 'center'}})")
        box = self.run(f"document.querySelector({name}).getBoundingClientRect().toJSON()")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str, *, ctrl: bool = False) -> None:
        """A key, by its name or its letter."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27}.get(key, ord(key.upper()) if len(key) == 1 else 0)
        about = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if ctrl else 0}
        down = {"text": text} if text and not ctrl else {}
        self.call("Input.dispatchKeyEvent", type="keyDown" if down else "rawKeyDown", **about, **down)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def write(self, selector: str, text: str) -> None:
        """Replace what stands in a field, as by typing."""
        self.run(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select(); }})()")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """One of the options of a list, as a person picks it."""
        self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            " e.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def give(self, selector: str, file: Path) -> None:
        """A file for a file field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file.absolute())], nodeId=node)

    def downloaded(self, pattern: str) -> Path:
        """The newest file that fits, once it is whole."""
        end = time.monotonic() + PATIENCE
        while True:
            files = sorted(self.downloads.glob(pattern), key=lambda file: file.stat().st_mtime_ns)
            if files and not list(self.downloads.glob("*.crdownload")):
                return files[-1]
            if time.monotonic() > end:
                raise RuntimeError(f"nothing like {pattern} was downloaded")
            self.run("1")
            time.sleep(0.05)

    def look(self, width: int = 1280, height: int = 900, *, dark: bool = False) -> None:
        """How wide the window is, and whether the person prefers dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def shoot(self, file: Path) -> None:
        """What is seen, as a PNG file."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
