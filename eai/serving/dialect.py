"""How a server is asked for a reply of a fixed length: each has a word of its own, and refuses or ignores the others'.

Energies are compared at equal length, so a text must not end where the model would end it. Tried in this order, the first that a server
accepts and obeys is used; what it then does is counted in every reply, never assumed.

    ignore_eos          vLLM (with min_tokens), SGLang, llama.cpp's server
    generation_config   transformers serve: an end token that no model has
    plain               no such word (TGI, Ollama): the text ends where the model ends it
    plain, no usage     an old server that does not know stream_options either

Where the server then tells that it had part of a question from before, it is asked to compute the whole prompt each time (llama.cpp's
`cache_prompt`), and that is kept if it obeys: else a prompt of 64 tokens would be one of 36 behind a template of 28.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from eai.errors import UserError
from eai.serving.reply import Reply

NO_TOKEN = 2**31 - 1
QUESTION = "Answer with one word: is water wet?"
QUESTION_TOKENS = 24
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
        """The request for `output_tokens` tokens, the likeliest one at each step."""
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


Ask = Callable[[dict], Reply]


def negotiate(ask: Ask, model: str, chat: bool) -> Dialect:
    """The first dialect that the server accepts and obeys, else the plainest that it accepts, by a question whose answer is short.

    Raises UserError where it accepts none, with its own words for the plainest: a wrong model, or no chat template, shows here.
    """
    return _uncached(ask, _accepted(ask, model, chat), model, chat)


def _uncached(ask: Ask, dialect: Dialect, model: str, chat: bool) -> Dialect:
    """The dialect, told to compute whole prompts where the server keeps their beginnings and obeys: the question was asked before."""
    if not ask(dialect.body(model, QUESTION, QUESTION_TOKENS, chat)).tokens_cached:
        return dialect
    whole = replace(dialect, name=f"{dialect.name}, {_UNCACHED}", fields=dialect.fields | {_UNCACHED: False})
    reply = ask(whole.body(model, QUESTION, QUESTION_TOKENS, chat))
    return whole if reply.ok and not reply.tokens_cached else dialect


def _accepted(ask: Ask, model: str, chat: bool) -> Dialect:
    """The first dialect that is obeyed, else the plainest that is accepted; raises UserError where none is."""
    accepted: list[Dialect] = []
    for dialect in DIALECTS[:-1]:
        reply = ask(dialect.body(model, QUESTION, QUESTION_TOKENS, chat))
        if reply.ok and reply.tokens_out == QUESTION_TOKENS:
            return dialect
        if reply.ok:
            accepted.append(dialect)
        elif reply.http_status not in NOT_UNDERSTOOD:
            raise UserError(f"the server answers no request for model '{model}' ({reply.reason})", "a completion", "look into its log")
    if accepted:
        return accepted[-1]
    reply = ask(DIALECTS[-1].body(model, QUESTION, QUESTION_TOKENS, chat))
    if not reply.ok:
        raise UserError(f"the server refuses model '{model}' ({reply.reason})", "a completion", "check the model's name and the address")
    return DIALECTS[-1]
