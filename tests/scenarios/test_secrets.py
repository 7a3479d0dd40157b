"""No key is in anything that a user keeps, shows, logs or sends on, whatever the provider echoes and however it ends."""

import asyncio
import copy
import io
import logging
import pickle
import traceback

import openai
import pytest

import llmlab as ll
from llmlab import errors

KEY = "sk-5ecre7/5ecre7+5ecre7"
# As good as the key: its parts, and what it becomes in JSON and in a repr.
TRACES = ("5ecre7", "Bearer sk")

RUNS = {
    "ok": {"model": "m"},
    "refused with the key echoed": {"model": "fault/s401-echo"},
    "refused": {"model": "fault/s401-key"},
    "pages": {"model": "fault/s413-html"},
    "redirected": {"model": "fault/m-cross"},
    "limited": {"model": "fault/r429-days"},
    "lost": {"model": "fault/w-reset"},
    "garbled": {"model": "fault/b-gzip-bad"},
    "silent": {"model": "fault/w-hang", "timeout": 0.2},
    "unread": {"model": "fault/j-unknown", "categories": ["a", "b"]},
    "no host": {"model": "m", "base_url": "http://no-such-host.invalid/v1"},
    "no certificate": {"model": "m", "side": "tls_self_signed"},
    "nobody there": {"model": "m", "side": "refused"},
    "with headers of ones own": {"model": "m", "extra_headers": {"X-Key": "5ecre7-5ecre7"}},
}


@pytest.fixture
def log():
    """Everything that any logger says, at any level."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s %(args)s"))
    root, before = logging.getLogger(), logging.getLogger().level
    loggers = [
        logging.getLogger(name)
        for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "aiohttp", "asyncio", "llmlab")
    ]
    levels = [logger.level for logger in loggers]
    root.addHandler(handler)
    for logger in (root, *loggers):
        logger.setLevel(logging.DEBUG)
    yield out
    root.removeHandler(handler)
    for logger, level in zip((root, *loggers), (before, *levels), strict=True):
        logger.setLevel(level)


def clean(shown):
    text = shown.decode("latin-1") if isinstance(shown, bytes) else shown
    return not [trace for trace in TRACES if trace in text]


def everything(results):
    """All that can be seen, written or sent of results."""
    yield from (repr(results), str(results.summary()), results._repr_html_(), str(results.stopped))
    for frame in (results.predictions, results.attempts, results.units):
        yield from (frame.to_csv(), frame.to_json(default_handler=str, date_format="iso"), repr(frame))
    yield repr(list(results.outcomes()))
    yield pickle.dumps(results)
    yield repr(vars(results))
    yield str(results.description)


@pytest.mark.parametrize("own", [False, True], ids=["url", "client"])
@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
async def test_no_key_is_in_anything_that_is_left_of_a_run(provider, tmp_path, log, capsys, run, own):
    simulated, settings = provider(), dict(run)
    url = settings.pop("base_url", None) or simulated.base_url
    if "side" in settings:
        url = simulated.side_url(settings.pop("side"))
    path = tmp_path / "journal.sqlite"
    settings |= {"retry": ll.RetryPolicy(wait=lambda attempt: 0.01, max_wait_s=30), "limiter": ll.RateLimiter(None)}
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
        settings |= {"client": client} if own else {"base_url": url, "api_key": KEY}
        experiment = ll.start_experiment(["a", "b"], "{text}", journal=path, progress="text", **settings)
        results = await experiment
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    printed = capsys.readouterr()
    shown = [*everything(results), *everything(ll.load_results(path)), files, log.getvalue(), printed.out, printed.err,
             repr(experiment), repr(experiment._setup), repr(vars(experiment._run))]  # fmt: skip
    assert len(log.getvalue()) > 100
    assert all(clean(one) for one in shown)


async def test_no_key_is_in_the_files_while_it_runs(provider, tmp_path):
    path = tmp_path / "journal.sqlite"
    given = {"base_url": provider(latency_s=0.05).base_url, "api_key": KEY}
    running = asyncio.ensure_future(
        ll.run_experiment(
            [str(at) for at in range(14)],
            "{text}",
            model="m",
            journal=path,
            progress=False,
            max_concurrent=2,
            limiter=ll.RateLimiter(None),
            **given,
        )
    )
    await asyncio.sleep(0.2)
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["journal.sqlite", "journal.sqlite-wal"]
    assert all(clean(file.read_bytes()) for file in tmp_path.iterdir())
    await running


def raised_by(settings, provider):
    """What a call raises, as a notebook would show it, and as it is sent to another process."""
    with pytest.raises(Exception) as caught:
        ll.run_experiment_sync(["a"], "{text}", **{"model": "m", "progress": False, **settings})
    error = caught.value
    yield from (str(error), repr(error), "".join(traceback.format_exception(error)))
    link = error
    while link is not None:
        yield from (str(link), repr(link.args))
        link = link.__cause__ or link.__context__
    if isinstance(error, errors.LlmlabError):
        yield pickle.dumps(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(copy.deepcopy(error)) == str(error)


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": f"{KEY}\nX-Evil: 1"},
        {"api_key": f"{KEY}é"},
        {"api_key": KEY, "base_url": "nowhere"},
        {"api_key": KEY, "base_url": f"http://127.0.0.1/{KEY}?key={KEY}"},
        {"api_key": KEY, "base_url": f"http://user:{KEY}@127.0.0.1/v1"},
        {"api_key": KEY, "client": object()},
        {"api_key": KEY, "max_concurrent": 0},
        {"api_key": KEY, "journal": "/nowhere/at/all.sqlite"},
        {"api_key": KEY, "extra_headers": {"X": f"{KEY}\n"}},
        {"api_key": KEY, "on_stop": "raise", "fault": "s401-echo"},
        {"api_key": KEY, "parse": lambda text: 1 / 0, "fault": "m307"},
        {"api_key": KEY, "environment": {"HTTP_PROXY": f"socks5://user:{KEY.replace('/', '')}@127.0.0.1"}},
        {"environment": {"OPENAI_API_KEY": KEY}},
        {"environment": {"OPENAI_API_KEY": f"{KEY}\n\n{KEY}", "OPENAI_BASE_URL": "http://127.0.0.1/v1"}},
        {"environment": {"OPENROUTER_API_KEY": KEY}, "base_url": "http://127.0.0.1/v1"},
    ],
)
def test_no_key_is_in_what_is_raised(provider, monkeypatch, settings):
    settings = dict(settings)
    for name, value in settings.pop("environment", {}).items():
        monkeypatch.setenv(name, value)
    simulated = provider(fault=settings.pop("fault", None))
    if "client" not in settings and "OPENAI_BASE_URL" not in str(settings):
        settings.setdefault("base_url", simulated.base_url)
    assert all(clean(shown) for shown in raised_by(settings, simulated))


async def test_the_key_of_a_client_is_not_shown_either(provider):
    client = openai.AsyncOpenAI(base_url=provider().base_url, api_key=f"{KEY}\n")
    with pytest.raises(errors.InputError) as caught:
        await ll.run_experiment(["a"], "{text}", model="m", client=client)
    await client.close()
    assert clean("".join(traceback.format_exception(caught.value)))


async def test_a_stop_and_a_bug_are_sent_to_another_process_with_their_results(provider):
    given = {"base_url": provider().base_url, "api_key": KEY, "progress": False, "limiter": ll.RateLimiter(None)}
    with pytest.raises(ll.ExperimentStopped) as caught:
        await ll.run_experiment(["a"], "{text}", model="fault/s401-echo", on_stop="raise", **given)
    for twin in (pickle.loads(pickle.dumps(caught.value)), copy.deepcopy(caught.value)):
        assert str(twin) == str(caught.value)
        assert twin.results.predictions["error_type"].tolist() == ["AuthenticationError"]
        with pytest.raises(ll.InputError, match="copied or combined, and know no prompt"):
            await twin.results.rerun_failed()
    assert clean(pickle.dumps(caught.value))
    with pytest.raises(ZeroDivisionError) as caught:
        await ll.run_experiment(["a"], "{text}", model="m", parse=lambda text: 1 / 0, **given)
    twin = pickle.loads(pickle.dumps(caught.value))
    assert len(twin.results.attempts) == 1
    assert clean(pickle.dumps(caught.value))


def test_limiters_and_their_metrics_show_no_key():
    limiter = ll.RateLimiterRegistry.get_limiter(KEY, 60)
    assert clean(
        repr(limiter) + str(ll.RateLimiterRegistry.get_metrics()) + str(ll.RateLimiterRegistry.get_metrics(KEY))
    )


def test_what_counts_in_one_process_says_so_when_it_is_sent_to_another():
    with pytest.raises(TypeError, match="RateLimiter counts in one process"):
        pickle.dumps(ll.RateLimiter(60))
    with pytest.raises(TypeError, match="Nothing is sent yet"):
        pickle.dumps(ll.run_experiment(["a"], "{text}", model="m", client=ll.simulate.client()))
