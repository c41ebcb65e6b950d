"""Debian's Chromium without a driver: the DevTools protocol through a pipe, by the standard library alone."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars",
    "--remote-debugging-pipe",
)  # fmt: skip

# It reads commands from descriptor 3 and answers on 4, whatever they are called here.
_START = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_PATIENCE = 60.0  # seconds


class Page:
    """One page of a new browser with an empty profile. ``complaints``: what its console or a script had to say;
    ``requests``: every address that it asked for."""

    def __init__(self, profile: Path, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        assert CHROMIUM is not None
        read_commands, self._send = os.pipe()
        self._receive, write_answers = os.pipe()

        self._browser = subprocess.Popen(
            [sys.executable, "-c", _START, str(read_commands), str(write_answers), CHROMIUM, *_FLAGS,
             f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(read_commands, write_answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read_commands)
        os.close(write_answers)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._browser.kill()
        self._browser.wait()
        os.close(self._send)
        os.close(self._receive)

    def open(self, file: Path) -> None:
        """Load a file and wait until its program has drawn everything."""
        self.call("Page.navigate", url=file.resolve().as_uri())
        self.wait_for("document.documentElement?.dataset.ready === 'true'")

    def wait_for(self, condition: str) -> None:
        """Raises AssertionError, with what the page complained of, if a JavaScript condition stays false."""
        deadline = time.monotonic() + _PATIENCE
        while not self.run(condition):
            assert time.monotonic() < deadline, f"waited in vain for {condition}: {self.complaints}"
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}; {self.complaints}")
        return answer["result"].get("value")

    def screenshot(self, file: Path, whole: bool = False) -> None:
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol and its answer; what is said in between is noted."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            said = self._next()
            if said.get("id") == self._number:
                if "error" in said:
                    raise AssertionError(f"{method}: {said['error']}")
                return said["result"]
            self._note(said)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            piece = os.read(self._receive, 1 << 16)
            if not piece:
                raise AssertionError("the browser has gone")
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, said: dict[str, Any]) -> None:
        of = said.get("params", {})
        if said.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(of["exceptionDetails"]))
        elif said.get("method") == "Runtime.consoleAPICalled" and of["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(of["args"]))
        elif said.get("method") == "Log.entryAdded" and of["entry"]["level"] in ("error", "warning"):
            self.complaints.append(json.dumps(of["entry"]))
        elif said.get("method") == "Network.requestWillBeSent":
            self.requests.append(of["request"]["url"])
