"""The cheapest chat-completions server: one asyncio protocol that answers every POST with the same completion.

A GET is answered with the number of completions that were given.
"""

from __future__ import annotations

import asyncio
import json
import sys

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": '{"label": "bug"}', "refusal": None},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_1\r\nContent-Length: %d\r\n\r\n" % len(
    ANSWER
)


class Answering(asyncio.Protocol):
    """Reads pipelined requests by Content-Length; answers after `latency_s`."""

    latency_s = 0.0
    answered = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            if head.startswith(b"get "):
                self.buffer = self.buffer[end + 4 :]
                told = b"%d" % Answering.answered
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(told) + told)
                continue
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            Answering.answered += 1
            if self.latency_s:
                asyncio.get_running_loop().call_later(self.latency_s, self.transport.write, HEAD + ANSWER)
            else:
                self.transport.write(HEAD + ANSWER)


async def serve(latency_s: float) -> None:
    """Serve until killed; prints the port."""
    Answering.latency_s = latency_s
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
