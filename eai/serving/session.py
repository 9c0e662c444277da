"""A server that was spoken to: which of its models, in which dialect, with prompts of which length. Makes the traffic of a load.

Prompts: texts of a wanted number of tokens for a server whose tokenizer is not at hand. Words are counted, the server says what they came
to. Each begins with a number of its own, so that a server that keeps the beginnings of earlier prompts finds no more than the template.

Dialects: how a server is asked for a reply of a fixed length; each has a word of its own, and refuses or ignores the others'. Energies are
compared at equal length, so a text must not end where the model would end it. The first that a server accepts and obeys is used; what it
then does is counted in every reply, never assumed.

    ignore_eos          vLLM (with min_tokens), SGLang, llama.cpp's server
    generation_config   transformers serve: an end token that no model has
    plain               no such word (TGI, Ollama): the text ends where the model ends it
    plain, no usage     an old server that does not know stream_options either

Where the server then tells that it had part of a question from before, it is asked to compute the whole prompt each time (llama.cpp's
`cache_prompt`), and that is kept if it obeys: else a prompt of 64 tokens would be one of 36 behind a template of 28.
"""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from eai.errors import UserError
from eai.serving.client import JOINED, OK, Client, Endpoint, Reply, Slots, StreamError, excerpt
from eai.serving.traffic import Seed, Traffic
from eai.settings import Load

STRIDE_WORDS = 37
TOLERANCE = 0.05
_TRIES = 4


@cache
def _passage() -> tuple[str, ...]:
    return tuple(files("eai.workload").joinpath("passage.txt").read_text("utf-8").split())


@dataclass(frozen=True)
class Prompts:
    """Prompts of `n_words` words each; number i is the same text whenever it is asked for with the same seed."""

    n_words: int
    seed: Seed = 0

    def text(self, i: int) -> str:
        """Prompt i: a number of six digits, then words from a place in our text that moves on by 37 words each time."""
        words = _passage()
        number = int(np.random.default_rng([*np.atleast_1d(self.seed), i]).integers(100_000, 1_000_000))
        start = (i * STRIDE_WORDS) % len(words)
        repeated = words * (2 + self.n_words // len(words))
        return " ".join([f"{number}.", *repeated[start : start + self.n_words]])


def fitted(input_tokens: int, count: Callable[[str], int], seed: Seed = 0) -> Prompts:
    """Prompts of about `input_tokens` tokens (within 5 %, or one word), by `count`, which says how many tokens a text came to. Raises
    UserError where the shortest prompt is longer already: chat templates add tokens of their own."""
    least = count(Prompts(1, seed).text(0))
    if least > input_tokens * (1 + TOLERANCE):
        raise UserError(f"{input_tokens} input tokens", f"at least {least}: the server's template comes on top", "set input_tokens higher")
    best, best_off, n_words, per_word = 1, abs(least - input_tokens), max(round((input_tokens - least) / 1.4), 1), 1.4
    for trial in range(1, _TRIES + 1):
        counted = count(Prompts(n_words, seed).text(trial))
        if abs(counted - input_tokens) < best_off:
            best, best_off = n_words, abs(counted - input_tokens)
        if best_off <= max(TOLERANCE / 2 * input_tokens, 1):
            break
        per_word = max((counted - least) / max(n_words - 1, 1), 0.5)
        n_words = max(round(n_words + (input_tokens - counted) / per_word), 1)
    return Prompts(best, seed)


NO_TOKEN = 2**31 - 1
QUESTION, QUESTION_TOKENS = "Answer with one word: is water wet?", 24
NOT_UNDERSTOOD = (400, 404, 422)
_UNCACHED = "cache_prompt"
_USAGE = {"stream_options": {"include_usage": True}}
_ENDLESS = json.dumps({"do_sample": False, "eos_token_id": NO_TOKEN, "pad_token_id": 0})


@dataclass(frozen=True)
class Dialect:
    """Fields that a request carries beside the prompt; `min_tokens` names the field that repeats the length."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    min_tokens: str = ""

    def body(self, model: str, prompt: str, output_tokens: int, chat: bool, streamed: bool = True) -> dict[str, Any]:
        asked = {"messages": [{"role": "user", "content": prompt}]} if chat else {"prompt": prompt}
        least = {self.min_tokens: output_tokens} if self.min_tokens else {}
        fields = {k: v for k, v in self.fields.items() if streamed or k != "stream_options"}
        return {"model": model, "max_tokens": output_tokens, "temperature": 0, "stream": streamed} | asked | fields | least


DIALECTS = (
    Dialect("ignore_eos", {"ignore_eos": True} | _USAGE, "min_tokens"),
    Dialect("generation_config", {"generation_config": _ENDLESS} | _USAGE),
    Dialect("plain", _USAGE),
    Dialect("plain, no usage"),
)
LIST_S, OPEN_SLOTS = 10.0, 16


class Session:
    """A conversation with one server about one of its models; `open` finds out how to talk to it. `listed`: what /v1/models says of the
    model, empty where it has no list; `count` tells how many tokens a text is, where the model's tokenizer is at hand."""

    def __init__(self, endpoint: Endpoint, model: str, timeout_s: float, seed: int = 0, count: Callable[[str], int] | None = None):
        self.endpoint, self.model, self.timeout_s, self.seed, self.count = endpoint, model, timeout_s, seed, count
        self.listed: dict[str, Any] = {}
        self.dialect: Dialect | None = None
        self._prompts: dict[int, Prompts] = {}

    def look_up(self) -> None:
        listed = models(self.endpoint)
        if listed and self.model not in listed:
            raise UserError(f"the server has no model '{self.model}'", f"one of {', '.join(listed)}", "set server_model to its name there")
        self.listed = listed.get(self.model, {})

    def open(self) -> "Session":
        """Itself, with the first dialect that the server accepts and obeys, else the plainest that it accepts, by a question with a short
        answer. Raises UserError where the server has no such model, or accepts none, with its own words: no chat template is seen here."""
        self.look_up()
        accepted, reply = None, None
        for dialect in DIALECTS:
            if accepted and dialect is DIALECTS[-1]:
                break
            reply = self._ask(dialect, QUESTION, QUESTION_TOKENS)
            accepted = dialect if reply.ok else accepted
            if reply.ok and reply.tokens_out == QUESTION_TOKENS:
                break
            if not reply.ok and reply.http_status not in NOT_UNDERSTOOD:
                raise self._no_answer(reply)
        if not accepted:
            do = "check the model's name and the address"
            raise UserError(f"the server refuses model '{self.model}' ({reply.reason})", "a completion", do)
        # The question was asked before: a server that keeps the beginnings of prompts has it, and may know the word to compute it whole.
        if self._ask(accepted, QUESTION, QUESTION_TOKENS).tokens_cached:
            whole = replace(accepted, name=f"{accepted.name}, {_UNCACHED}", fields=accepted.fields | {_UNCACHED: False})
            reply = self._ask(whole, QUESTION, QUESTION_TOKENS)
            accepted = whole if reply.ok and not reply.tokens_cached else accepted
        self.dialect = accepted
        return self

    def _no_answer(self, reply: Reply) -> UserError:
        found = f"the server answers no request for model '{self.model}' ({reply.reason})"
        return UserError(found, "a completion", "look into its log")

    def _ask(self, dialect: Dialect, text: str, output_tokens: int, streamed: bool = True) -> Reply:
        async def ask() -> Reply:
            async with Client(self.endpoint, time.monotonic, self.timeout_s) as client:
                body = dialect.body(self.model, text, output_tokens, self.endpoint.chat, streamed)
                return await client.ask(body, time.monotonic())

        return in_thread(ask())

    def prompts(self, input_tokens: int) -> Prompts:
        """Prompts of about this many tokens by the server's own count, as replies in one piece tell it even where streams do not."""
        if input_tokens not in self._prompts:
            self._prompts[input_tokens] = fitted(input_tokens, self._count, self.seed)
        return self._prompts[input_tokens]

    def _count(self, text: str) -> int:
        """How many tokens a prompt comes to, as the server tells. Raises UserError where it does not, or its number cannot be."""
        reply = self._ask(self.dialect, text, 1, streamed=False)
        if not reply.ok:
            raise self._no_answer(reply)
        if reply.tokens_in is None:
            raise UserError("the server tells no usage", "prompt_tokens in its replies", "measure a server that counts tokens")
        if self.count and (own := self.count(text)) > JOINED * reply.tokens_in + 2:
            found = f"usage of {reply.tokens_in} input tokens for a prompt of {own} by the model's tokenizer"
            raise UserError(found, "at least as many", "state the model that the server runs, or measure a server that counts tokens")
        return reply.tokens_in

    def traffic(self, load: Load, input_tokens: int, output_tokens: int, now_s: Callable[[], float], seed: Seed = 0) -> Traffic:
        """Traffic under `load` with prompts and replies of these lengths; not started yet. `seed` decides arrivals and prompts: another one
        for each window, or the server may still know the prompts of the last."""
        prompts, slots = replace(self.prompts(input_tokens), seed=seed), Slots(self.endpoint, now_s, self.timeout_s)

        async def ask(number: int, due_s: float) -> Reply:
            return await slots.ask(self.dialect.body(self.model, prompts.text(number), output_tokens, self.endpoint.chat), due_s)

        return Traffic(load, ask, now_s, seed, lambda: slots.open(load.concurrency or OPEN_SLOTS), slots.close)


def models(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    """What the server says of each of its models; empty where it keeps no list. Raises UserError where nobody answers at the address, the
    key is not accepted, or the answer is not HTTP."""

    async def look() -> tuple[int, str]:
        async with Client(endpoint, time.monotonic, LIST_S) as client:
            return await client.models()

    try:
        status, content = in_thread(look())
    except (OSError, StreamError) as error:
        why = excerpt(endpoint.redacted(str(error))) or type(error).__name__
        raise UserError(f"no answer from {endpoint.base} ({why})", "a running server", "start it, or check the address") from None
    if status in (401, 403):
        raise UserError(f"{endpoint.base} does not let us in (HTTP {status})", "a valid key", "set the environment variable EAI_API_KEY")
    try:
        listed = json.loads(content)["data"] if status == OK else []
        return {each["id"]: dict(each) for each in listed if isinstance(each["id"], str)}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def in_thread(work: Coroutine) -> Any:
    """The result of a coroutine run to its end on a thread of its own: a notebook's thread has an event loop already."""
    with ThreadPoolExecutor(1, "eai-session") as pool:
        return pool.submit(asyncio.run, work).result()
