"""`python -m llmlab.simulate`: a simulated provider in the foreground, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Sequence
from dataclasses import fields

from llmlab.simulate.server import SimulatedProvider
from llmlab.simulate.settings import SWITCH, Settings, kind_of, meaning_of


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a simulated provider in the foreground until Ctrl-C."""
    options = parser()
    given = vars(options.parse_args(arguments))
    port = given.pop("port")
    try:
        provider = SimulatedProvider(Settings(**given), port)
    except (ValueError, OSError) as error:
        options.error(str(error))
    print(f"Simulated provider: no real model, no cost. {provider!r}")
    print(f"Use it:  OPENAI_BASE_URL={provider.base_url} OPENAI_API_KEY={provider.api_key} your-program")
    print(f"Counts:  {provider.base_url.removesuffix('/v1')}/stats    Stop: Ctrl-C", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        counts = provider.counts()
        print(f"\nServed {counts.requests} requests: {counts.ok} ok, {counts.refused} refused, {counts.errors} errors.")
    finally:
        provider.close()


def parser() -> argparse.ArgumentParser:
    """One option per setting; its help is the setting's own declaration."""
    options = argparse.ArgumentParser(
        prog="python -m llmlab.simulate", description="A simulated provider; no real model."
    )
    options.add_argument("--port", type=int, default=0, help="The port of 127.0.0.1; any free one by default.")
    for one in fields(Settings):
        flag, kind = f"--{one.name.replace('_', '-')}", kind_of(one)
        if kind is SWITCH:
            options.add_argument(flag, action="store_true", help=meaning_of(one))
        else:
            says = f"{meaning_of(one)}; default: {one.default}".replace("%", "%%")
            options.add_argument(flag, type=kind.read, default=one.default, metavar="VALUE", help=says)
    return options


if __name__ == "__main__":
    main()
