"""A real kernel, what is done with it, and how to read what it published."""

from __future__ import annotations

import json
import os
import queue
import re
import time
from pathlib import Path

from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[2]
WIDGET = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A kernel and everything it published."""

    def __init__(self, folder: Path) -> None:
        env = os.environ | {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=env, cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)
        self.seen: list[dict] = []

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def until(self, condition, timeout_s: float = 15.0) -> dict:
        """Read until a message fulfils the condition."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                continue
            self.seen.append(message)
            if condition(message):
                return message
        raise TimeoutError(f"not seen in {timeout_s} s")

    def start(self, code: str) -> str:
        """Run a cell, and do not wait for it."""
        return self.client.execute(code)

    def published(self, cell: str) -> list[dict]:
        """Wait for the end of a cell; its messages."""

        def ended(message: dict) -> bool:
            content = message["content"]
            return message["parent_header"].get("msg_id") == cell and content.get("execution_state") == "idle"

        if not any(ended(message) for message in self.seen):
            self.until(ended)
        return [message for message in self.seen if message["parent_header"].get("msg_id") == cell]

    def finish(self, cell: str) -> list[dict]:
        """Wait for the end of a cell that has no error; its messages."""
        messages = self.published(cell)
        errors = [message["content"] for message in messages if message["msg_type"] == "error"]
        assert not errors, "\n".join(errors[0]["traceback"])
        return messages

    def run(self, code: str) -> list[dict]:
        return self.finish(self.start(code))

    def fails(self, code: str) -> str:
        """Run a cell that ends with an error; the traceback as it is shown, without its colours."""
        messages = self.published(self.client.execute(code, stop_on_error=False))
        (error,) = [message["content"] for message in messages if message["msg_type"] == "error"]
        return plain("\n".join(error["traceback"]))

    def completes(self, code: str) -> list[str]:
        """What the Tab key offers at the end of this code."""
        return self.client.complete(code, reply=True, timeout=15)["content"]["matches"]

    def helps(self, name: str) -> str:
        """What `name?` shows."""
        return plain(self.client.inspect(name, reply=True, timeout=15)["content"]["data"]["text/plain"])

    def opened(self, model: str) -> dict:
        """Wait for the next widget of this kind."""

        def is_it(message: dict) -> bool:
            state = message["content"].get("data", {}).get("state", {})
            return message["msg_type"] == "comm_open" and state.get("_model_name") == model

        return self.until(is_it)["content"]

    def advanced(self, at_least: int = 1) -> dict:
        """Wait until a live bar has come so far."""

        def far(message: dict) -> bool:
            return message["msg_type"] == "comm_msg" and valuenow(message) >= at_least

        return self.until(far)

    def click(self, button: dict) -> None:
        data = {"method": "custom", "content": {"event": "click"}}
        message = self.client.session.msg("comm_msg", {"comm_id": button["comm_id"], "data": data})
        self.client.shell_channel.send(message)


def valuenow(message: dict) -> int:
    page = message["content"]["data"].get("state", {}).get("value", "")
    return int(page.split("aria-valuenow='")[1].split("'")[0]) if "aria-valuenow" in page else -1


def printed(messages: list[dict]) -> str:
    return "".join(
        m["content"]["text"] for m in messages if m["msg_type"] == "stream" and m["content"]["name"] == "stdout"
    )


def reported(messages: list[dict]) -> dict:
    return json.loads(printed(messages).splitlines()[-1])


def shown(messages: list[dict], kind: str) -> list[dict]:
    return [message["content"]["data"] for message in messages if message["msg_type"] == kind]


def shown_as(messages: list[dict], kind: str) -> list[str]:
    return [message["content"]["transient"]["display_id"] for message in messages if message["msg_type"] == kind]


def opened(messages: list[dict]) -> dict[str, str]:
    """The kind of every widget that was made, by its comm."""
    comms = [message["content"] for message in messages if message["msg_type"] == "comm_open"]
    return {comm["comm_id"]: comm["data"]["state"]["_model_name"] for comm in comms}


def plain(text: str) -> str:
    """A text without its terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
