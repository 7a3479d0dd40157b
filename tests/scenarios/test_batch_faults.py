"""A batch queue that is late, half there, out of order or broken: nothing is lost, and nothing is paid twice."""

import asyncio
import contextlib
import json
from collections import Counter
from dataclasses import replace

import pytest

import llmlab as ll
from llmlab.simulate import Settings, SimulatedProvider
from llmlab.simulate.reply import Reply, as_json, refuse
from llmlab.simulate.service import Service
from tests.helpers import until

TEXTS = [f"the parcel {at} is late" for at in range(40)]
QUEUED = len(TEXTS) - 1


class OddService(Service):
    """Serves as usual, but what a script says otherwise.

    `script(kind, number, reply)` is told what is asked ("upload", "create", "look", "cancel", "list" or "content"), how
    many of these came before, and a function that gives the usual reply; it gives the reply.
    """

    def __init__(self, settings, script):
        super().__init__(settings)
        self.script, self.seen = script, Counter()

    def upload(self, *given):
        return self._scripted("upload", lambda: super(OddService, self).upload(*given))

    def queue(self, method, path, key, raw):
        kind = "look"
        if "content" in path:
            kind = "content"
        elif method == "POST":
            kind = "cancel" if path.endswith("/cancel") else "create"
        elif path.partition("?")[0] == "/batches":
            kind = "list"
        return self._scripted(kind, lambda: super(OddService, self).queue(method, path, key, raw))

    def _scripted(self, kind, usual):
        self.seen[kind] += 1
        return self.script(kind, self.seen[kind] - 1, usual)


class OddProvider(SimulatedProvider):
    def __init__(self, script, **settings):
        self._script = script
        super().__init__(Settings(**{"batch_s": 0.2, "latency_s": 0, "cost": True, **settings}))

    def _make_service(self):
        return OddService(self.settings, self._script)


@pytest.fixture
def odd():
    """Start a provider whose batch queue follows a script."""
    started = []

    def start(script, **settings):
        started.append(OddProvider(script, **settings))
        return started[-1]

    yield start
    for one in started:
        one.close()


def asked(provider, tmp_path, **settings):
    usual = {"model": "m", "categories": ["bug", "delivery"], "batch": True, "progress": False,
             "client": provider, "journal": tmp_path / "study.sqlite", "limiter": ll.RateLimiter(None),
             "retry": ll.RetryPolicy(outage_s=5.0)}  # fmt: skip
    return TEXTS, "{text}", usual | settings


async def ask(provider, tmp_path, **settings):
    units, prompt, settings = asked(provider, tmp_path, **settings)
    return await ll.run_experiment(units, prompt, **settings)


def start(provider, tmp_path, **settings):
    units, prompt, settings = asked(provider, tmp_path, **settings)
    return ll.start_experiment(units, prompt, **settings)


def is_whole(results, provider, lines=QUEUED):
    """All are answered, each line was paid for once, and the book is the provider's."""
    assert results.stopped is None
    assert results.predictions["status"].eq("ok").all()
    counts = provider.counts()
    assert counts.batch_lines == lines
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert results.attempts[name].sum() == getattr(counts, name)
    assert results.attempts["cost_usd"].sum() == pytest.approx(counts.cost_usd)


def rows(reply):
    return [json.loads(row) for row in reply.body.splitlines()]


def as_file(rows):
    return Reply(200, b"".join(json.dumps(row).encode() + b"\n" for row in rows), {"Content-Type": "text/plain"})


NOT_FOUND = refuse(404, "No such object.")
TOO_MANY = refuse(429, "Too many requests.")


# what passes


def first(count, kind, reply):
    """The first so many of a kind get this reply."""
    return lambda its, number, usual: reply if its == kind and number < count else usual()


def after_it_was_done(count, kind, reply):
    """The first so many of a kind are done, and answered otherwise."""

    def script(its, number, usual):
        done = usual()
        return reply if its == kind and number < count else done

    return script


def truncated(its, number, usual):
    reply = usual()
    return replace(reply, body=reply.body[: len(reply.body) // 2]) if its == "content" and number == 0 else reply


PASSES = {
    "the batch is not found at first": first(2, "look", NOT_FOUND),
    "the output file is not found at first": first(2, "content", NOT_FOUND),
    "the output file comes in part at first": truncated,
    "the output file is empty at first": first(1, "content", Reply(200, b"", {})),
    "polls fail with 500": first(2, "look", refuse(500, "Internal error.")),
    "polls fail with 503 pages": first(
        2, "look", Reply(503, b"<html>maintenance</html>", {"Content-Type": "text/html"})
    ),
    "a poll gets a page with status 200": first(
        1, "look", Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"})
    ),
    "reading fails with 500": first(2, "content", refuse(500, "Internal error.")),
    "too many uploads": first(2, "upload", TOO_MANY),
    "too many creations": first(2, "create", TOO_MANY),
    "the upload fails after it was done": after_it_was_done(1, "upload", refuse(500, "Internal error.")),
    "the creation fails after it was done": after_it_was_done(1, "create", refuse(500, "Internal error.")),
    "the creation is answered without an id": after_it_was_done(1, "create", as_json({"object": "batch"})),
    "the list fails": first(1, "list", refuse(502, "Bad gateway.")),
}


@pytest.mark.parametrize("script", PASSES.values(), ids=PASSES)
async def test_what_passes_is_waited_for(odd, tmp_path, script):
    provider = odd(script)
    is_whole(await ask(provider, tmp_path), provider)


def listed_late(its, number, usual):
    """The creation fails on its way back, and the list lacks the batch for a while."""
    done = usual()
    if its == "create" and number == 0:
        return refuse(500, "Internal error.")
    if its == "list" and number in (1, 2):
        return as_json({"object": "list", "data": [], "has_more": False})
    return done


async def test_a_batch_that_is_listed_late_is_not_created_twice(odd, tmp_path):
    provider = odd(listed_late)
    is_whole(await ask(provider, tmp_path), provider)
    assert provider._service.seen["create"] == 1


@contextlib.asynccontextmanager
async def cut(provider, request, *, sent, cuts):
    """A way to the provider that breaks in the first `cuts` requests that begin so, after so many bytes up or down."""
    upward, downward = sent
    port = int(provider.base_url.rsplit(":", 1)[1].removesuffix("/v1"))
    left = [cuts]

    async def relay(reader, writer, budget):
        while data := await reader.read(65_536):
            part = data[: budget[0]]
            budget[0] -= len(part)
            writer.write(part)
            await writer.drain()
            if budget[0] <= 0:
                return

    async def serve(reader, writer):
        above, below = await asyncio.open_connection("127.0.0.1", port)
        data = await reader.read(65_536)
        breaks = request in data.partition(b"\r\n")[0] and left[0] > 0
        left[0] -= breaks
        # Each connection carries one request, so that the line that tells it is the first.
        data = data.replace(b"onnection: keep-alive", b"onnection: close", 1)
        up, down = ([upward], [downward]) if breaks else ([10**9], [10**9])
        below.write(data[: up[0]])
        up[0] -= len(data)
        ways = [relay(above, writer, down), relay(reader, below, up)] if up[0] > 0 else []
        tasks = [asyncio.ensure_future(way) for way in ways]
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
        below.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        assert left[0] < cuts


@pytest.mark.parametrize(
    ("request_line", "sent"),
    [
        (b"POST /v1/files", (700, 10**9)),
        (b"POST /v1/files", (10**9, 0)),
        (b"POST /v1/batches", (10**9, 40)),
        (b"/content", (10**9, 900)),
        (b"GET /v1/batches/", (10**9, 60)),
    ],
)
async def test_a_connection_that_breaks_on_the_way_costs_no_line(odd, tmp_path, request_line, sent):
    provider = odd(lambda its, number, usual: usual())
    async with cut(provider, request_line, sent=sent, cuts=2) as url:
        results = await ask(None, tmp_path, base_url=url, api_key="simulated")
    is_whole(results, provider)


# odd lines


def lines(change):
    """The output file with its rows changed; every file is changed once, and looks the same ever after."""

    def script(its, number, usual):
        reply = usual()
        if its != "content" or reply.status != 200:
            return reply
        return as_file(change(rows(reply)))

    return script


def with_strangers(found):
    stranger = {**found[0], "custom_id": "somebody-elses"}
    return [stranger, {**stranger, "custom_id": None}, {"id": "no request"}, *reversed(found)]


def with_other_types(found):
    """Numbers as text, ids as numbers, bodies as text."""
    return [
        row | {"custom_id": int(row["custom_id"])} | {"response": row["response"] | {
            "status_code": str(row["response"]["status_code"]), "body": json.dumps(row["response"]["body"])}}
        for row in found
    ]  # fmt: skip


@pytest.mark.parametrize("change", [with_strangers, with_other_types])
async def test_lines_in_other_words_are_understood(odd, tmp_path, change):
    provider = odd(lines(change))
    is_whole(await ask(provider, tmp_path), provider)


@pytest.mark.parametrize("usage", [None, {}, "many", {"prompt_tokens": "12", "total_tokens": -3}, [1, 2]])
async def test_a_line_without_a_usable_count_keeps_its_answer_and_its_tokens_are_unknown(odd, tmp_path, usage):
    def change(found):
        found[0]["response"]["body"]["usage"] = usage
        return found

    provider = odd(lines(change))
    results = await ask(provider, tmp_path)
    assert results.stopped is None
    assert results.predictions["status"].eq("ok").all()
    assert len(results.attempts) == len(TEXTS)
    assert results.attempts["total_tokens"].isna().sum() == 1
    assert results.attempts["cost_usd"].isna().sum() == 1
    assert results.attempts["may_be_billed"].all()


def with_errors(status, body, count=3):
    def change(found):
        for row in found[:count]:
            row["response"] = {"status_code": status, "request_id": "r", "body": body}
        return found

    return change


@pytest.mark.parametrize("batch", [True, "again"])
@pytest.mark.parametrize(
    ("status", "code"), [(429, "rate_limit_exceeded"), (500, "server_error"), (503, "overloaded"), (408, "timeout")]
)
async def test_lines_that_failed_for_a_while_are_asked_again_and_end_with_their_retries(
    odd, tmp_path, batch, status, code
):
    body = {"error": {"message": "Not now.", "code": code}}
    provider = odd(lines(with_errors(status, body)))
    results = await ask(provider, tmp_path, batch=batch)
    assert results.stopped is None
    again = results.attempts[results.attempts["attempt"] > 1]
    if batch is True:
        assert results.predictions["status"].eq("ok").all()
        assert again["service_tier"].tolist() == ["default"] * 3
    else:
        # The script lets the same lines of every further batch fail, too.
        assert results.predictions["status"].value_counts().to_dict() == {"ok": QUEUED - 2, "failed": 3}
        assert again["attempt"].max() == 3


async def test_lines_that_are_not_understood_fail_alone(odd, tmp_path):
    body = {"error": {"message": "Invalid 'messages[0]'.", "type": "invalid_request_error", "param": "messages"}}
    provider = odd(lines(with_errors(400, body)))
    results = await ask(provider, tmp_path)
    assert results.stopped is None
    failed = results.predictions[results.predictions["status"] == "failed"]
    assert failed["error_type"].tolist() == ["RequestError"] * 3
    assert provider.counts().batch_lines == QUEUED


# what does not pass


async def test_a_batch_that_stays_away_is_given_up_and_what_it_may_have_cost_is_unknown(odd, tmp_path):
    provider = odd(lambda its, number, usual: NOT_FOUND if its == "look" else usual())
    results = await ask(provider, tmp_path, retry=ll.RetryPolicy(outage_s=0.8))
    assert results.predictions["status"].eq("ok").all()
    lost = results.attempts[results.attempts["error_type"] == "BadResponseError"]
    assert len(lost) == QUEUED
    assert lost["may_be_billed"].all()
    assert lost["cost_usd"].isna().all()


@pytest.mark.parametrize("kind", ["upload", "create"])
async def test_a_refused_batch_ends_its_model_and_leaves_the_live_way_open(odd, tmp_path, kind):
    said = refuse(400, "This model is not supported in the batch API.", param="model", code="model_not_supported")
    provider = odd(lambda its, number, usual: said if its == kind else usual())
    results = await ask(provider, tmp_path)
    assert "not supported in the batch API" in results.stopped
    assert "goes on at the provider" not in results.stopped
    assert results.predictions["status"].value_counts().to_dict() == {"not_run": QUEUED, "ok": 1}
    live = await ask(provider, tmp_path, batch=False)
    assert live.predictions["status"].eq("ok").all()
    assert provider.counts().batch_lines == 0


async def test_a_file_that_is_too_large_is_halved(odd, tmp_path):
    sizes = []

    def script(its, number, usual):
        if its == "upload" and number < 2:
            return refuse(413, "The file is too large.")
        sizes.append(its)
        return usual()

    provider = odd(script)
    is_whole(await ask(provider, tmp_path), provider)
    assert sizes.count("create") == 5  # 39 lines in batches of 9


async def test_a_key_that_ends_while_it_waits_stops_the_run_and_the_batch_is_read_later(odd, tmp_path):
    bad = refuse(401, "Incorrect API key.", code="invalid_api_key")
    keys = {"good": False}
    provider = odd(lambda its, number, usual: usual() if keys["good"] or its != "look" else bad)
    results = await ask(provider, tmp_path)
    assert results.stopped.startswith("401")
    assert "the batch goes on at the provider" in results.stopped
    keys["good"] = True
    is_whole(await ask(provider, tmp_path), provider)


async def test_a_queue_that_takes_only_small_batches_gets_small_ones(odd, tmp_path):
    provider = odd(first(4, "create", TOO_MANY))
    is_whole(await ask(provider, tmp_path, retry=ll.RetryPolicy(outage_s=0.1)), provider)
    assert provider._service.seen["create"] == 4 + 5  # 39 and 19 lines are refused twice each; then 9 at a time


async def test_a_queue_that_takes_nothing_ends_the_model_with_its_words(odd, tmp_path):
    provider = odd(lambda its, number, usual: TOO_MANY if its == "create" else usual())
    results = await ask(provider, tmp_path, retry=ll.RetryPolicy(outage_s=0.01))
    assert "batch: 429: Too many requests." in results.stopped
    assert provider.counts().batch_lines == 0


@pytest.mark.parametrize("off_s", [-90_000, 90_000])
async def test_the_providers_clock_may_be_off_by_more_than_a_day(odd, tmp_path, off_s):
    def script(its, number, usual):
        reply = usual()
        if its not in ("create", "look") or reply.status != 200:
            return reply
        state = json.loads(reply.body)
        return as_json(
            {name: value + off_s if name.endswith("_at") and value else value for name, value in state.items()}
        )

    provider = odd(script)
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    results = await ask(provider, tmp_path)
    is_whole(results, provider)
    queued = results.attempts[results.attempts["service_tier"] == "batch"]
    assert queued["latency_s"].between(0, 60).all()


@pytest.mark.parametrize("status", ["validating", "finalizing", "something_new"])
async def test_a_batch_that_is_stuck_is_waited_for_until_somebody_stops_or_cancels(odd, tmp_path, status):
    def script(its, number, usual):
        reply = usual()
        if its != "look":
            return reply
        state = json.loads(reply.body)
        stuck = {"status": status, "output_file_id": None, "completed_at": None, "expires_at": 1}
        return as_json(state | stuck if state["status"] == "completed" else state)

    provider = odd(script)
    experiment = start(provider, tmp_path)
    await until(lambda: provider.counts().batch_lines == QUEUED)
    await asyncio.sleep(0.05)
    assert experiment._run.running
    experiment.stop()
    results = await experiment
    assert "the batch goes on at the provider" in results.stopped


# stopping and cancelling


@pytest.mark.parametrize("kind", ["upload", "create", "look", "content", "list"])
async def test_stop_does_not_wait_for_a_provider_that_hangs(odd, tmp_path, kind):
    hung = []

    def script(its, number, usual):
        reply = usual()
        if its != kind:
            return reply
        hung.append(its)
        return replace(reply, delay_s=1000)

    provider = odd(script)
    experiment = start(provider, tmp_path, grace_s=0.05)
    await until(lambda: hung)
    experiment.stop()
    results = await asyncio.wait_for(experiment, 10)
    assert results.stopped.startswith("stopped")
    # What was on its way is found by the next session; what was not is begun by one trial live again.
    provider._service.script = lambda its, number, usual: usual()
    is_whole(await ask(provider, tmp_path), provider, QUEUED - (kind == "upload"))


async def test_cancel_after_stop_cancels_what_went_on(odd, tmp_path):
    provider = odd(lambda its, number, usual: usual(), batch_s=4.0)
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    await experiment.cancel_batch()
    results = await ask(provider, tmp_path)
    assert results.stopped.startswith("the batch was cancelled")
    assert provider.counts().batch_lines < QUEUED
    again = await ask(provider, tmp_path)
    assert again.predictions["status"].eq("ok").all()
    assert again.attempts["total_tokens"].sum() == provider.counts().total_tokens


async def test_another_session_can_cancel_at_once_and_asks_nothing(odd, tmp_path):
    provider = odd(lambda its, number, usual: usual(), batch_s=4.0)
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    requests = provider.counts().requests
    experiment = start(provider, tmp_path)
    await experiment.cancel_batch()
    results = await experiment
    assert results.stopped.startswith("the batch was cancelled")
    assert provider.counts().requests == requests


async def test_cancel_while_a_batch_is_created_cancels_it_too_and_submits_no_other(odd, tmp_path):
    def script(its, number, usual):
        return replace(usual(), delay_s=0.3) if its == "create" else usual()

    provider = odd(script, batch_s=4.0)
    experiment = start(provider, tmp_path, model=["m", "n"])
    await until(lambda: provider._service.seen["create"] == 1)
    await experiment.cancel_batch()
    results = await experiment
    assert results.stopped.startswith("the batch was cancelled")
    assert provider._service.seen["cancel"] == provider._service.seen["create"] == 1


async def test_cancel_is_repeated_until_the_provider_hears_it(odd, tmp_path):
    provider = odd(first(1, "cancel", refuse(503, "Busy.")), batch_s=4.0)
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    await experiment.cancel_batch()
    assert (await experiment).stopped.startswith("the batch was cancelled")
    assert provider._service.seen["cancel"] == 2


async def test_a_batch_that_ends_before_it_is_cancelled_is_read(odd, tmp_path):
    provider = odd(lambda its, number, usual: refuse(409, "It has ended.") if its == "cancel" else usual())
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    await until(lambda: provider.counts().batch_lines == QUEUED)
    await experiment.cancel_batch()
    results = await experiment
    assert results.predictions["status"].eq("ok").all()


async def test_two_sessions_cannot_have_one_book(odd, tmp_path):
    provider = odd(lambda its, number, usual: usual(), batch_s=2.0)
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    with pytest.raises(ll.JournalError, match="in use"):
        await ask(provider, tmp_path)
    is_whole(await experiment, provider)


async def test_an_edited_cell_leaves_the_batch_of_the_other_to_it(odd, tmp_path):
    provider = odd(lambda its, number, usual: usual(), batch_s=1.0)
    experiment = start(provider, tmp_path)
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    units, _, settings = asked(provider, tmp_path)
    other = await ll.run_experiment(units[:5], "Tell me: {text}", **settings)
    assert other.predictions["status"].eq("ok").all()
    part = await ll.run_experiment(units[:10], "{text}", **settings)
    assert part.predictions["status"].eq("ok").all()
    results = await ask(provider, tmp_path)
    assert results.predictions["status"].eq("ok").all()
    assert provider.counts().batch_lines == QUEUED + 4
    tokens = other.attempts["total_tokens"].sum() + results.attempts["total_tokens"].sum()
    assert tokens == provider.counts().total_tokens


async def test_what_failed_is_asked_again_through_the_queue(odd, tmp_path):
    body = {"error": {"message": "Invalid 'messages[0]'.", "type": "invalid_request_error", "param": "messages"}}
    provider = odd(lines(with_errors(400, body)))
    results = await ask(provider, tmp_path)
    provider._service.script = lambda its, number, usual: usual()
    mended = await results.rerun_failed()
    assert mended.predictions["status"].eq("ok").all()
    before, queued = mended.predictions["attempts"], provider.counts().batch_lines
    again = await mended.rerun(mended.predictions.head(4))
    assert again.predictions["status"].eq("ok").all()
    assert (again.predictions["attempts"] - before).tolist() == [1] * 4 + [0] * (len(TEXTS) - 4)
    assert provider.counts().batch_lines == queued + 3
