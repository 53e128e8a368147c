"""A headless Chromium, spoken to through its own debugging pipe: no further package, no port, no network."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE = 60.0
"""Seconds to wait for what a page should come to."""


class Browser:
    """One page of a browser. What its scripts raise or warn of is kept for `require_no_errors`."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.last, self.rest = 0, b""
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.session = ""
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self.session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give the browser a command of the DevTools protocol; its answer."""
        self.last += 1
        number = self.last
        command = {"id": number, "method": method, "params": parameters}
        if self.session:
            command["sessionId"] = self.session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            content = os.read(self.answers, 2**20)
            assert content, "the browser is gone"
            self.rest += content
        line, _, self.rest = self.rest.partition(b"\0")
        said = json.loads(line)
        if said.get("method") == "Runtime.exceptionThrown":
            details = said["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        if said.get("method") == "Runtime.consoleAPICalled" and said["params"]["type"] in ("warning", "error"):
            self.errors.append(" ".join(str(part.get("value", part)) for part in said["params"]["args"]))
        if said.get("method") == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
            self.errors.append(f"{said['params']['entry']['text']} {said['params']['entry'].get('url', '')}")
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(said["params"]["request"]["url"])
        return said

    def look(self, width: int = 1280, *, dark: bool = False, height: int = 900) -> None:
        """Be so wide, in light or dark."""
        self("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, page: Path, fragment: str = "") -> None:
        """Open a file, and wait until it and its scripts have been read."""
        self("Page.navigate", url="about:blank")
        self("Page.navigate", url=page.as_uri() + fragment)
        self.wait("document.readyState == 'complete' && location.protocol == 'file:'")

    def run(self, script: str) -> Any:
        """What a JavaScript expression comes to."""
        found = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"].get("exception", {}).get("description", found))
        return found["result"].get("value")

    def wait(self, script: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"never came true: {script}; errors: {self.errors}"
            time.sleep(0.02)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key: Tab, Enter, or a character."""
        codes = {"Tab": 9, "Enter": 13, " ": 32, "ArrowDown": 40}
        text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key, 0), "modifiers": 8 * shift}
        self("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **common)
        self("Input.dispatchKeyEvent", type="keyUp", **common)

    def screenshot(self, to: Path, *, whole: bool = True) -> None:
        """The page as a PNG file, all of it unless told otherwise."""
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        to.write_bytes(base64.b64decode(shot["data"]))

    def require_no_errors(self) -> None:
        """Raise what scripts raised, and refuse anything that was asked of a network."""
        assert not self.errors, self.errors
        foreign = [url for url in self.requests if not url.startswith(("file:", "data:", "about:", "blob:"))]
        assert not foreign, foreign


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser whose own files lie in `folder`."""
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe"]  # fmt: skip
    # The browser reads commands from descriptor 3 and writes answers to 4.
    start = f'exec 8<&{theirs} 9>&{ours}; exec 3<&8 4>&9 8<&- 9>&-; exec "$@"'
    words = ["bash", "-c", start, "chromium", str(CHROMIUM), *flags]
    with (folder / "chromium.log").open("wb") as log:
        process = subprocess.Popen(words, pass_fds=(theirs, ours), stdout=log, stderr=log)
    os.close(theirs)
    os.close(ours)
    try:
        yield Browser(commands, answers)
    finally:
        os.close(commands)
        process.terminate()
        process.wait(30)
        os.close(answers)
