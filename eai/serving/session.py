"""A server that was spoken to: which of its models, in which dialect, with prompts of which length. Makes the traffic of a load."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx

from eai.errors import UserError
from eai.servers import Load
from eai.serving import stream
from eai.serving.client import Client, connection
from eai.serving.dialect import Dialect, negotiate
from eai.serving.endpoint import Endpoint
from eai.serving.prompt import Prompts, Seed, fitted
from eai.serving.reply import Reply
from eai.serving.traffic import Traffic

LIST_S = 10.0


class Session:
    """A conversation with one server about one of its models; `open` finds out how to talk to it.

    `listed`: what /v1/models says of the model, empty where it has no list; `prompts` are fitted once for each input length.
    """

    def __init__(self, endpoint: Endpoint, model: str, timeout_s: float, seed: int = 0):
        self.endpoint, self.model, self.timeout_s, self.seed = endpoint, model, timeout_s, seed
        self.listed: dict[str, Any] = {}
        self.dialect: Dialect | None = None
        self._prompts: dict[int, Prompts] = {}

    def look_up(self) -> None:
        """Find the model in the server's list. Raises UserError where nobody answers, or the list does not have it."""
        listed = models(self.endpoint)
        if listed and self.model not in listed:
            raise UserError(f"the server has no model '{self.model}'", f"one of {', '.join(listed)}", "set server_model to its name there")
        self.listed = listed.get(self.model, {})

    def open(self) -> "Session":
        """Itself, once the model was found in the server's list, or there is no list, and it answered. Raises UserError if not."""
        self.look_up()
        self.dialect = negotiate(self._ask_once, self.model, self.endpoint.chat)
        return self

    def _ask_once(self, body: dict) -> Reply:
        """The reply to one request, outside any traffic."""

        async def ask() -> Reply:
            async with connection(self.endpoint) as http:
                return await Client(http, self.endpoint, time.monotonic, self.timeout_s).ask(body, time.monotonic())

        return in_thread(ask())

    def prompts(self, input_tokens: int) -> Prompts:
        """Prompts of about this many tokens by the server's own count, as replies in one piece tell it even where streams do not."""
        if input_tokens not in self._prompts:
            self._prompts[input_tokens] = fitted(input_tokens, self._count, self.seed)
        return self._prompts[input_tokens]

    def _count(self, text: str) -> int:
        """How many tokens a prompt comes to. Raises UserError where the server does not tell."""
        reply = self._ask_once(self.dialect.body(self.model, text, 1, self.endpoint.chat, streamed=False))
        if not reply.ok:
            raise UserError(f"the server answers no request for model '{self.model}' ({reply.reason})", "a completion", "look into its log")
        if reply.tokens_in is None:
            raise UserError("the server tells no usage", "prompt_tokens in its replies", "measure a server that counts tokens")
        return reply.tokens_in

    def traffic(self, load: Load, input_tokens: int, output_tokens: int, now_s: Callable[[], float], seed: Seed = 0) -> Traffic:
        """Traffic under `load` with prompts and replies of these lengths; not started yet.

        `seed` decides arrivals and prompts: another one for each window, or the server may still know the prompts of the last.
        """
        prompts, http = replace(self.prompts(input_tokens), seed=seed), connection(self.endpoint)
        client = Client(http, self.endpoint, now_s, self.timeout_s)

        async def ask(number: int, due_s: float) -> Reply:
            return await client.ask(self.dialect.body(self.model, prompts.text(number), output_tokens, self.endpoint.chat), due_s)

        return Traffic(load, ask, now_s, seed, http.aclose)


def models(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """What the server says of each of its models; empty where it keeps no list.

    Raises UserError where nobody answers at the address, the key is not accepted, or the answer is not HTTP.
    """
    try:
        answer = httpx.get(endpoint.models, headers=endpoint.headers, timeout=LIST_S, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = stream.excerpt(str(error)) or type(error).__name__
        raise UserError(f"no answer from {endpoint.base} ({why})", "a running server", "start it, or check the address") from None
    if answer.status_code in (401, 403):
        raise UserError(
            f"{endpoint.base} does not let us in (HTTP {answer.status_code})", "a valid key", "set the environment variable EAI_API_KEY"
        )
    try:
        listed = answer.json()["data"] if answer.status_code == httpx.codes.OK else []
        return {each["id"]: each for each in listed}
    except (ValueError, KeyError, TypeError):
        return {}


def in_thread(work: Coroutine) -> Any:
    """The result of a coroutine run to its end on a thread of its own: a notebook's thread has an event loop already."""
    with ThreadPoolExecutor(1, "eai-session") as pool:
        return pool.submit(asyncio.run, work).result()
