"""A headless Chromium, spoken to over its pipe: the page is opened, clicked and typed into as a reader does."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_PATIENCE = 30.0


def program() -> str | None:
    """Where one is installed; RECONCILER_CHROMIUM names another."""
    return os.environ.get("RECONCILER_CHROMIUM") or next(
        (path for name in _NAMES if (path := shutil.which(name))), None
    )


class Chromium:
    """One page in one browser; whatever the page logs or tries to load is remembered."""

    def __init__(self, folder: Path, *options: str) -> None:
        found = program()
        assert found is not None
        to_read, self._write_to = os.pipe()
        self._read_from, to_write = os.pipe()
        words = [
            found,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
        ]
        words += [
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--window-size=1400,1000",
        ]
        # The pipes are descriptors 3 and 4 of the browser.
        script = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words, f"--user-data-dir={folder / 'profile'}", *options, "about:blank"],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(folder), "DBUS_SESSION_BUS_ADDRESS": "disabled:"},
        )
        os.close(to_read)
        os.close(to_write)
        self._out: IO[bytes] = os.fdopen(self._write_to, "wb", buffering=0)
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Chromium:
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(it for it in targets if it["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None
        self._out.write(b'{"id":0,"method":"Browser.close"}\0')
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._out.close()
        os.close(self._read_from)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read_from], [], [], _PATIENCE)
            assert ready, "the browser is silent"
            data = os.read(self._read_from, 1 << 20)
            assert data, "the browser is gone"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(line)

    def open(self, path: Path) -> None:
        self.call("Page.navigate", url=path.as_uri())
        self.until(
            f"location.href === {json.dumps(path.as_uri())} && document.documentElement?.dataset.ready === 'true'"
        )

    def js(self, expression: str) -> Any:
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def until(self, expression: str) -> None:
        end = time.monotonic() + _PATIENCE
        while not self.js(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.03)

    def key(self, key: str, *, text: str | None = None) -> None:
        codes = {
            "Enter": 13,
            "Escape": 27,
            "ArrowDown": 40,
            "ArrowUp": 38,
            "End": 35,
            "Home": 36,
            "PageDown": 34,
            "Tab": 9,
            " ": 32,
        }
        given = text if text is not None else ("\r" if key == "Enter" else key if len(key) == 1 else "")
        code = codes.get(key, ord(key[0].upper()))
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, text=given)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        place = self.js(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.scrollIntoView({{ block: 'center' }});"
            " const b = it.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def errors(self) -> list[str]:
        """What the page complained about: exceptions, refused styles and scripts."""
        bad = [it for it in self.events if it["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        return [json.dumps(it["params"])[:500] for it in bad]

    def loaded(self) -> list[str]:
        """Every address that was asked for."""
        asked = [it["params"]["request"]["url"] for it in self.events if it["method"] == "Network.requestWillBeSent"]
        return [it for it in asked if it != "about:blank"]
