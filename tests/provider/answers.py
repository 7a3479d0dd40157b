"""Faults of a paid or promised 200: odd bodies, cut connections, odd completions, odd usage, odd texts."""

from __future__ import annotations

import gzip
import json
from typing import Any

from tests.provider.faults import LABEL, USAGE, Fault, Wire, countable, page


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_NOTHING: Any = object()


def _completion(
    content: object = LABEL, *, usage: object = USAGE, finish: str = "stop", choices: object = _NOTHING, **top: object
) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None}
    whole = {"model": "m", "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]}
    if choices is not _NOTHING:
        whole["choices"] = choices
    if usage is not _NOTHING:
        whole["usage"] = usage
    return whole | {"id": "chatcmpl-f98fd223c625", "object": "chat.completion", "created": 1795521100} | top


def _answer(content: object = LABEL, *, usage: object = USAGE, **more: Any) -> Fault:
    """A 200 with a whole completion."""
    body = _json(_completion(content, usage=usage, **more))
    return Fault(body=body, tokens=countable(usage), billed=True)


def _choice(**choice: object) -> Fault:
    """A completion with this one choice and nothing else in it."""
    return _answer(choices=[choice])


def _said(content: object, finish: str | None = "stop") -> Fault:
    return _choice(message={"content": content, "refusal": None}, finish_reason=finish)


def _usage(*counts: object, **more: object) -> Fault:
    """A good answer with this prompt, completion and total."""
    return _answer(usage=dict(zip(USAGE, counts, strict=False)) | more)


def _body(body: bytes, wire: Wire = "reply", *, readable: bool = True, **headers: str | None) -> Fault:
    """A paid 200 with these bytes; `readable` if a careful reader can find the usage in them."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(headers=named, body=body, wire=wire, tokens=USAGE if readable else {}, billed=True)


def _unpaid(body: bytes, **headers: str) -> Fault:
    """A 200 with these bytes for which nobody would be charged."""
    return Fault(headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


def _brotli(body: bytes) -> bytes:
    """A brotli stream with one stored block, at most 64 KiB."""
    return (1 | 5 << 1 | (len(body) - 1) << 7 | 1 << 23).to_bytes(3, "little") + body + b"\x03"


GOOD = _json(_completion())
_CHUNKS = (
    {"choices": [{"index": 0, "delta": {"content": '{"label": '}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": '"yes"}'}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
)
_SSE = b": OPENROUTER PROCESSING\n\n" + b"".join(
    b"data: %s\n\n" % _json({"id": "c", "object": "chat.completion.chunk", "model": "m", **chunk}) for chunk in _CHUNKS
)
_PARTS = [{"type": "text", "text": LABEL}]
_THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": 'Maybe {"label": "no"}?'}]}

_BODIES = {
    "b-empty-json": _unpaid(b""),
    "b-blank": _body(b" \n" * 40, readable=False),
    "b-null": _unpaid(b"null"),
    "b-string": _unpaid(b'"upstream error"'),
    "b-number": _unpaid(b"0"),
    "b-object": _unpaid(b"{}"),
    "b-html": _unpaid(page("Welcome"), Content_Type="text/html"),
    "b-html-json": _body(page("Oops"), readable=False),
    "b-utf16": _body(b"\xff\xfe" + GOOD.decode().encode("utf-16-le")),
    "b-text-type": _body(GOOD, Content_Type="text/plain"),
    "b-no-type": _body(GOOD, Content_Type=None),
    "b-space": _body(b" " * 4000 + b"\n" * 40 + GOOD),
    "b-comments": _body(b": OPENROUTER PROCESSING\n\n" * 3 + GOOD),
    "b-sse": _body(_SSE + b"data: [DONE]\n\n", Content_Type="text/event-stream"),
    "b-dup-keys": _body(GOOD[:-1] + b', "choices": []}'),
    "b-nan": _body(GOOD[:-1] + b', "score": NaN}'),
    "b-extra": _body(GOOD + b'\n{"done": true}'),
    "b-deep": _unpaid(b"[" * 100_000 + b"]" * 100_000),
    "b-big": _answer("x" * 2_000_000),
    "b-gzip": _body(gzip.compress(GOOD, mtime=0), Content_Encoding="gzip"),
    "b-gzip-cut": _body(gzip.compress(GOOD, mtime=0)[:-40], readable=False, Content_Encoding="gzip"),
    "b-gzip-bad": _body(GOOD, readable=False, Content_Encoding="gzip"),
    "b-br": _body(_brotli(GOOD), readable=False, Content_Encoding="br"),
    "b-control": _answer("yes\x00\x07\x1b[31m"),
    "b-surrogate": _answer('{"label": "yes \ud83d"}'),
}

_BELOW = {
    "w-reset": _body(b"", "reset", readable=False),
    "w-cut-length": _body(GOOD, "cut", readable=False),
    "w-cut-eof": _body(GOOD, "cut_eof", readable=False),
    "w-cut-chunk": _body(GOOD, "cut_chunk", readable=False),
    "w-garbage": Fault(body=b"SSH-2.0-OpenSSH_9.6\r\n", wire="raw"),
    "w-hang": _body(b"", "hang", readable=False),
    "w-drip": _body(b"", "drip", readable=False),
    "w-slow": _body(GOOD, "slow"),
    "w-idle-close": _body(GOOD, "idle_close"),
}

_MESSAGES = {
    "c-error-502": Fault(body=_json({"error": {"code": 502, "message": "Provider returned error"}})),
    "c-error-400": Fault(body=_json({"error": {"code": 400, "message": "Input is too long for requested model."}})),
    "c-error-text": Fault(body=_json({"error": "model overloaded"})),
    "c-detail": Fault(body=_json({"detail": "Not authenticated"})),
    "c-error-null-ok": _answer(error=None),
    "c-no-choices": Fault(body=_json({"model": "m", "usage": USAGE}), tokens=USAGE, billed=True),
    "c-choices-null": _answer(choices=None, usage=dict(zip(USAGE, (12, 4, 16), strict=True))),
    "c-choices-empty": _answer(choices=[], usage=dict(zip(USAGE, (12, 4, 16), strict=True))),
    "c-choices-dict": _answer(choices={"0": "yes"}, usage=dict(zip(USAGE, (12, 4, 16), strict=True))),
    "c-no-message": _choice(finish_reason="stop"),
    "c-content-null": _said(None),
    "c-content-empty": _said(""),
    "c-content-space": _said(" \n\t "),
    "c-content-parts": _said(_PARTS),
    "c-content-thinking": _said([_THINKING, *_PARTS]),
    "c-refusal": _choice(
        message={"content": None, "refusal": "I'm sorry, I can't assist with that request."}, finish_reason="stop"
    ),
    "c-filter": _said("", "content_filter"),
    "c-filter-safety": _choice(message={"role": "assistant"}, finish_reason="SAFETY"),
    "c-finish-error": _choice(
        message={"content": "par"},
        finish_reason="error",
        error={"code": 502, "message": "Upstream idle timeout exceeded"},
    ),
    "c-finish-system": _said('{"lab', "insufficient_system_resource"),
    "c-finish-null": _said(LABEL, None),
    "c-finish-odd": _said(LABEL, "eos_token"),
    "c-model-null": _answer(model=None, id=None),
    "c-two": _answer(
        choices=[
            {"message": {"content": LABEL}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": '{"label": "no"}'}, "finish_reason": "stop"},
        ]
    ),
    "c-cut-prompt": _usage(2, 4, 6),
}

_ODD_USAGE = {
    "u-null": _answer(usage=None),
    "u-missing": _answer(usage=_NOTHING),
    "u-empty": _answer(usage={}),
    "u-partial": _answer(usage={"total_tokens": 15}),
    "u-zero": _usage(0, 0, 0),
    "u-strings": _usage("10", "5", "15"),
    "u-negative": _usage(10, -5, 5),
    "u-float": _usage(10.5, 5.5, 15.5),
    "u-bool": _usage(True, True, True),
    "u-mismatch": _usage(10, 5, 915),
    "u-details-null": _usage(10, 5, 15, prompt_tokens_details=None, completion_tokens_details=None),
    "u-details-odd": _usage(
        10, 5, 15, prompt_tokens_details={"cached_tokens": 99}, completion_tokens_details={"reasoning_tokens": 99}
    ),
    "u-cost": _usage(10, 5, 15, cost=0.00014, is_byok=False, cost_details={"upstream_inference_cost": None}),
    "u-cost-byok": _usage(10, 5, 15, cost=0, is_byok=True, cost_details={"upstream_inference_cost": 0.00014}),
    "u-cost-text": _usage(10, 5, 15, cost="0.000123"),
}

_TEXTS = {
    "j-fence": _answer(f"```json\n{LABEL}\n```"),
    "j-prose": _answer(f"Sure! Here is the JSON you asked for:\n\n{LABEL}\n\nLet me know if you need more."),
    "j-two": _answer(f'{LABEL}\nWait, on reflection: {{"label": "no"}}'),
    "j-braces-prose": _answer(f"Using the set {{yes, no}}: {LABEL}"),
    "j-think": _answer(f'<think>Maybe {{"label": "no"}}? Hmm.</think>\n\n{LABEL}'),
    "j-think-end": _answer(f"Let me see...</think>{LABEL}"),
    "j-think-inside": _answer('{"label": "yes", "why": "it says <think>no</think> and ```json {} ```"}'),
    "j-think-open": _answer('<think>Maybe {"label": "no"}'),
    "j-trailing-comma": _answer('{"label": "yes",}'),
    "j-single": _answer("{'label': 'yes'}"),
    "j-python": _answer("{'label': 'yes', 'sure': True, 'why': None}"),
    "j-smart": _answer("{\u201clabel\u201d: \u201cyes\u201d}"),
    "j-nan": _answer('{"label": "yes", "score": NaN}'),
    "j-infinity": _answer('{"label": "yes", "score": -Infinity}'),
    "j-dup": _answer('{"label": "yes", "label": "no"}'),
    "j-cut": _answer('{"label": "yes", "why": "beca'),
    "j-zero-width": _answer('{"label": "\u200byes\xa0"}'),
    "j-escaped": _answer(json.dumps(LABEL)),
    "j-scalar": _answer('"yes"'),
    "j-bare": _answer("yes"),
    "j-number": _answer('{"label": 1}'),
    "j-number-text": _answer('{"label": "yes", "score": "0,9"}'),
    "j-bool": _answer('{"label": true}'),
    "j-empty": _answer("{}"),
    "j-key-case": _answer('{"Label": "yes"}'),
    "j-unknown": _answer('{"label": "maybe"}'),
    "j-multi": _answer('{"label": "yes, no"}'),
    "j-label-list": _answer('{"label": ["yes", "no"]}'),
    "j-extra": _answer('{"label": "yes", "confidence": 0.9, "notes": "x"}'),
    "j-nested": _answer('{"result": {"label": "yes"}}'),
    "j-schema": _answer('{"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}'),
    "j-refuse": _answer("I'm sorry, but I can't help with that."),
    "j-flood": _answer(
        '{"label":' + " " * 16_000, finish="length", usage=dict(zip(USAGE, (11, 4096, 4107), strict=True))
    ),
    "j-loop": _answer(
        '{"why": "' + "and so on " * 1_600, finish="length", usage=dict(zip(USAGE, (11, 4096, 4107), strict=True))
    ),
    "j-xml": _answer("<label>yes</label>"),
}

ANSWERS = _BODIES | _BELOW | _MESSAGES | _ODD_USAGE | _TEXTS
