"""How the tests ask a provider that plays faults: without a limit of our own, with waits of 10 ms, and patient for one probe of an outage."""

from __future__ import annotations

import llmlab as ll

KEY = "sk-5ecre7-5ecre7-5ecre7"


def policy(**settings):
    return ll.RetryPolicy(**{"wait": lambda attempt: 0.01, "max_wait_s": 60.0, "outage_s": 0.5} | settings)


async def ask(provider, units, model="m", **settings):
    """Ask without any limit of ours; the address of the provider, and a key that looks like one."""
    given = {} if settings.keys() & {"client", "base_url"} else {"base_url": provider.base_url, "api_key": KEY}
    return await ll.run_experiment(
        units,
        "Classify: {text}",
        model=model,
        progress=False,
        **{
            "limiter": ll.RateLimiter(None),
            "retry": policy(),
            "timeout": 20.0,
            "categories": ["yes", "no"],
            **given,
            **settings,
        },
    )


def texts(count):
    return [f"text {at}" for at in range(count)]


def statuses(results):
    return results.predictions["status"].value_counts().to_dict()
