"""One request over HTTP: sent, streamed back with the time of each piece, retried where the server asks for it, never lost.

A reply is a series of `data:` lines (server-sent events), one JSON object each, and ends with `data: [DONE]`. Usage comes with the last
piece of text or in a piece without choices; a fault may come as an object with `error` inside a reply that began well.

Times must be the server's and not this side's. Each request in flight has a connection of its own, made before the load begins: behind a
shared pool of 64, requests left up to 0.7 s late. Bytes are stamped as they arrive and parsed afterwards, so that the last of 256 replies
that arrive together is not stamped when the first 255 are parsed.

A connection is kept for the next request. A server may have closed it by then, and llama.cpp's does so after every streamed reply although
it promises to keep it; the request that met the closed connection was never read, and is sent again (RFC 9112, section 9.3.1).
"""

import asyncio
import hashlib
import itertools
import json
import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import httptools

from eai.errors import UserError
from eai.settings import KEY_VARIABLE, SCHEMES, address

CHAT, PLAIN = "/chat/completions", "/completions"
REFUSED, TIMEOUT, BROKEN, HTTP = "refused", "timeout", "broken", "http"
OK = 200
CUT_OFF = "the reply was cut off before its end"
CONNECT_S, CONNECTING = 10.0, 32
RETRIES, RETRY_CAP_S = 5, 30.0
TURNED_AWAY = (429, 503)
FIRST_TIMEOUTS, STEADY_TOKENS = 3.0, 64
RUNAWAY = 2  # pieces of text, as a multiple of max_tokens, after which a reply is broken off: the server does not heed it
MOST_BYTES = 1 << 22  # of a line of a stream, and of a reply in one piece
MOST_SAID = 10_000  # characters of a server's own words that are looked at
TEMPLATE_TOKENS = 10_000  # that a server's template can add to a prompt; without them a prompt has at most one a byte
JOINED = 1.1  # tokens of a text by its tokenizer, as a multiple of those that it was written in
TEXTS = ("content", "reasoning_content", "reasoning", "tool_calls")  # of a delta; reasoning is produced token by token as the answer is


@dataclass(frozen=True)
class Endpoint:
    """One OpenAI-compatible server: `base` ends in its version (`.../v1`); `chat` says which of the two kinds of completion is asked."""

    base: str
    host: str
    port: int
    chat: bool = True
    key: str = field(default="", repr=False)

    @property
    def completions(self) -> str:
        return self.base + (CHAT if self.chat else PLAIN)

    @property
    def mark(self) -> str:
        return hashlib.sha256(f"{self.host}:{self.port}".encode()).hexdigest()[:8]

    @cached_property
    def tls(self) -> ssl.SSLContext | None:
        """What connections of this endpoint share; None without encryption."""
        return ssl.create_default_context() if self.base.startswith("https:") else None

    def redacted(self, text: str) -> str:
        """The text without the key: servers have been seen to send the request's headers back."""
        for spelt in {self.key, json.dumps(self.key)[1:-1]} - {""}:
            text = text.replace(spelt, "[key]")
        return text


def endpoint(server: str, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint at an address such as http://127.0.0.1:8000, with the key of the environment variable EAI_API_KEY. Without a path, /v1
    is meant; one that ends in /chat/completions or /completions says which is asked, chat by default. Raises UserError for what is none."""
    parts = address(server)
    path = parts.path.rstrip("/")
    chat = path.endswith(CHAT) or not path.endswith(PLAIN)
    path = path.removesuffix(CHAT).removesuffix(PLAIN) or "/v1"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port, key = parts.port or SCHEMES[parts.scheme], environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"{KEY_VARIABLE} holds characters that no key has", "printable ASCII", "set it again")
    return Endpoint(f"{parts.scheme}://{host}:{port}{path}", parts.hostname, port, chat, key)


@dataclass(frozen=True)
class Reply:
    """One request from the moment it was due to the end of its reply, on the clock of the measurement [s].

    `sent_s`: when its last byte had left this process. `moments_s`: when each piece of text arrived. `tokens_in`, `tokens_out`: as the
    server's usage tells; where it tells nothing `tokens_in` is None, and `tokens_out` is the number of pieces with `by_usage` False.
    `tokens_cached`: prompt tokens that it had from an earlier request. `failure`: "" or one of refused, timeout, broken, http; `reason`:
    why, on one line; `http_status`: the answer's, 0 without one. `retries`: how often it was turned away before. `asked_tokens`,
    `asked_bytes`: the request's max_tokens and its length; 0 where that is not known. `text`: what the model wrote.
    """

    due_s: float
    sent_s: float
    ended_s: float
    moments_s: tuple[float, ...] = ()
    tokens_in: int | None = None
    tokens_out: int = 0
    by_usage: bool = False
    tokens_cached: int = 0
    failure: str = ""
    reason: str = ""
    http_status: int = 0
    retries: int = 0
    asked_tokens: int = 0
    asked_bytes: int = 0
    text: str = field(default="", repr=False)

    @property
    def ok(self) -> bool:
        return not self.failure

    def miscount(self, count: Callable[[str], int] | None = None) -> str:
        """Which counts of a whole reply cannot be, "" where they can; `count` tells a text's tokens where the tokenizer is at hand. A piece
        of text holds at least one token, so pieces <= usage <= max_tokens; a prompt has at most a token a byte, and a template; a text has
        no more tokens than usage tells, but for those that a tokenizer would have joined. It may have fewer: the end of a turn."""
        pieces, told = len(self.moments_s), f"{'usage' if self.by_usage else 'pieces'} of {self.tokens_out} output tokens"
        if not self.ok:
            return ""
        if self.tokens_out > self.asked_tokens > 0:
            return f"{told} where max_tokens is {self.asked_tokens}"
        if self.tokens_out <= 0 or pieces > self.tokens_out:
            return told + (f" in {pieces} pieces of text" if pieces else "")
        if self.tokens_in is not None and not 0 < self.tokens_in <= (self.asked_bytes or self.tokens_in) + TEMPLATE_TOKENS:
            return f"usage of {self.tokens_in} input tokens for a request of {self.asked_bytes} bytes"
        if count and (written := count(self.text.replace("\ufffd", ""))) > JOINED * self.tokens_out + 2:
            return f"{told} for a text of {written} by the model's tokenizer"
        return ""

    @property
    def ttft_s(self) -> float | None:
        return self.moments_s[0] - self.due_s if self.moments_s else None  # waiting in line counts

    @property
    def latency_s(self) -> float:
        return self.ended_s - self.due_s

    @property
    def step_time_s(self) -> float | None:
        """Mean time of one token after the first; None for a reply of one token."""
        several = min(len(self.moments_s), self.tokens_out) > 1
        return (self.moments_s[-1] - self.moments_s[0]) / (self.tokens_out - 1) if several else None

    def tokens_between(self, start_s: float, stop_s: float) -> float:
        """Output tokens that arrived after `start_s` and up to `stop_s`: the usage spread evenly over the pieces of text, since a piece may
        hold several tokens and a token no text of its own; without any text they count where the reply ended."""
        moments_s = self.moments_s or (self.ended_s,)
        return self.tokens_out * sum(start_s < moment_s <= stop_s for moment_s in moments_s) / len(moments_s)

    def gaps_between_s(self, start_s: float, stop_s: float) -> list[float]:
        """Times between successive pieces of text, of those that arrived after `start_s` and up to `stop_s`."""
        return [after - before for before, after in itertools.pairwise(self.moments_s) if start_s < after <= stop_s]


class StreamError(Exception):
    """The reply is not what the protocol says, or the server reported a fault inside it."""


class Event(NamedTuple):
    """What one line said: the text that came with it (None: nothing that the model wrote; a call of a tool is, and has no text), the usage
    if given (input, output and cached tokens), and whether the text is finished or this is the last line."""

    text: str | None = None
    usage: tuple[int | None, ...] = (None, None, None)
    finished: bool = False


def event_of(line: str) -> Event | None:
    """The event of a line; None for blank lines, comments and other fields. Raises StreamError for a line that is none of these."""
    line = line.strip()
    if not line.startswith("data:"):
        if not line or line.startswith((":", "event:", "id:", "retry:")):
            return None
        raise StreamError(f"a line that is no event: {_line(line)}")
    payload = line.removeprefix("data:").strip()
    return Event(finished=True) if payload == "[DONE]" else completion(payload, "an event")


def completion(payload: str, what: str = "a reply") -> Event:
    """What a piece of a completion, or a whole one, says. Raises StreamError for a fault or a shape of another kind."""
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        raise StreamError(f"{what} that is not JSON: {_line(payload)}") from None
    try:
        if content.get("error"):
            raise StreamError(f"the server reports: {message(content)}")
        if not content.keys() & {"choices", "usage"}:
            raise TypeError
        choice = next(iter(content.get("choices") or []), {})
        delta = choice.get("delta") or choice.get("message") or {}
        written = [found for found in (choice.get("text"), *map(delta.get, TEXTS)) if found]
        usage = content.get("usage") or {}
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        tokens = [usage.get("prompt_tokens"), usage.get("completion_tokens"), cached]
    except (AttributeError, TypeError):
        raise StreamError(f"{what} that is no completion: {_line(content)}") from None
    for told in tokens:  # whatever its sign: `Reply.miscount` says what cannot be
        if told is not None and (isinstance(told, bool) or not isinstance(told, (int, float)) or told != told // 1):
            raise StreamError(f"usage that is no count: {_line(told)}")
    text = next((found for found in written if isinstance(found, str)), "") if written else None
    return Event(text, tuple(told if told is None else int(told) for told in tokens), bool(choice.get("finish_reason")))


def message(content: Any) -> str:
    """The words of an error object, whichever of the servers' shapes it has, on one line."""
    for name in ("error", "detail", "message"):
        if isinstance(content, dict) and content.get(name):
            content = content[name]
    return _line(content)


def excerpt(text: str) -> str:
    """The first 160 characters of a text on one line."""
    line = _line(text)
    return line if len(line) <= 160 else line[:157] + "..."


def _line(content: Any) -> str:
    """A text of the server, or the JSON of an object, on one line; shortened only after the key was taken out of it."""
    return " ".join((content if isinstance(content, str) else json.dumps(content))[:MOST_SAID].split())


class _Answer:
    """What came back for one request: the head, then the body in pieces with their times. httptools calls its `on_` methods."""

    def __init__(self, most_pieces: float):
        self.status, self.headers, self.content = 0, {}, bytearray()
        self.moment_s, self.moments_s, self.texts = 0.0, [], []
        self.usage: Sequence[int | None] = (None, None, None)
        self.is_stream = self.finished = self.ended = self.keeps = False
        self._most_pieces = most_pieces
        self.parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes, moment_s: float) -> None:
        """Take bytes that arrived at a moment. Raises StreamError for what is no HTTP or no reply."""
        self.moment_s = moment_s
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ if isinstance(error.__context__, StreamError) else StreamError(str(error)) from None
        except httptools.HttpParserError as error:
            raise StreamError(f"no HTTP: {error}") from None

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self.parser.get_status_code()
        self.is_stream = self.status == OK and "text/event-stream" in self.headers.get("content-type", "")

    def on_body(self, data: bytes) -> None:
        self.content += data
        if self.is_stream and b"\n" in data:
            *lines, self.content = self.content.split(b"\n")
            for line in lines:
                self._take(event_of(line.decode(errors="replace")))
        if len(self.content) > MOST_BYTES:
            raise StreamError(f"more than {MOST_BYTES} bytes without an end")

    def on_message_complete(self) -> None:
        self.ended, self.keeps = self.status >= OK, self.parser.should_keep_alive()  # the parser knows only here
        if not self.ended:
            self.headers.clear()

    def _take(self, event: Event | None) -> None:
        if event is None:
            return
        if event.text is not None:
            self.moments_s.append(self.moment_s)
            self.texts.append(event.text)
            if len(self.moments_s) > self._most_pieces:
                raise StreamError(f"{len(self.moments_s)} pieces of text and no end: the server does not heed max_tokens")
        self.usage = [before if told is None else told for before, told in zip(self.usage, event.usage, strict=True)]
        self.finished = self.finished or event.finished

    def close(self) -> None:
        rest = self.content.decode(errors="replace")
        if self.is_stream:
            self._take(event_of(rest))
            if not self.finished:
                raise StreamError(CUT_OFF)
        elif self.status == OK:
            self._take(completion(rest))

    def refusal(self) -> str:
        text = self.content.decode(errors="replace")
        try:
            words = message(json.loads(text))
        except (ValueError, RecursionError):
            words = _line(text)
        return f"HTTP {self.status}: {words}".rstrip(": ")

    def retry_after_s(self, unasked_s: float) -> float:
        """The seconds of a Retry-After header, `unasked_s` where there is none or it is a date; at most 30."""
        asked = self.headers.get("retry-after", "").strip()
        return min(float(asked) if re.fullmatch(r"\d+(\.\d*)?", asked, re.ASCII) else unasked_s, RETRY_CAP_S)


class _Wire(asyncio.Protocol):
    """One connection: one request at a time, its answer fed when the bytes of every other connection that has some are stamped."""

    def __init__(self, now_s: Callable[[], float]):
        self._now_s, self._loop = now_s, asyncio.get_running_loop()
        self._arrived: list[tuple[float, bytes]] = []
        self._answer: _Answer | None = None
        self._left: asyncio.Future | None = None
        self.is_open = self.was_used = False

    async def exchange(self, request: bytes, answer: _Answer, sent_s: list[float], timeout_s: float, until_s: float) -> None:
        """Send a request and feed `answer` until its end; `sent_s` gets the time when the kernel had all of it. Raises ConnectionResetError
        where the connection was lost, TimeoutError where no text comes for `timeout_s` or no end until `until_s` of the loop's clock,
        StreamError."""
        self._answer, self._done = answer, self._loop.create_future()
        self._look(0, self._loop.time(), timeout_s, until_s)
        try:
            self._transport.write(request)
            if self._transport.get_write_buffer_size():
                self._left = self._loop.create_future()
                await self._left
            sent_s.append(self._now_s())
            await self._done
        finally:
            self._timer.cancel()
            self._answer = self._left = None
            self.was_used = True

    def _look(self, pieces: int, since_s: float, timeout_s: float, until_s: float) -> None:
        """Whether the time for the next piece of text is over; one timer a reply looks when it may be, and none a piece."""
        moments_s, now_s = self._answer.moments_s, self._loop.time()
        if len(moments_s) > pieces:
            since_s = now_s - max(self._now_s() - moments_s[-1], 0.0)
        if now_s < (next_s := min(since_s + timeout_s, until_s)):
            self._timer = self._loop.call_at(next_s, self._look, len(moments_s), since_s, timeout_s, until_s)
        elif now_s >= until_s:
            self._finish(TimeoutError(f"no end of the reply in time after {len(moments_s)} pieces of text"))
        else:
            self._finish(TimeoutError(f"no text for {timeout_s:g} s"))

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport, self.is_open = transport, True
        transport.set_write_buffer_limits(0)

    def resume_writing(self) -> None:
        if self._left and not self._left.done():
            self._left.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self._arrived:
            self._loop.call_soon(self._feed)
        self._arrived.append((self._now_s(), data))

    def _feed(self) -> None:
        arrived, self._arrived = self._arrived, []
        try:
            for moment_s, data in arrived:
                if self._answer and not self._answer.ended:
                    self._answer.feed(data, moment_s)
        except StreamError as error:
            return self._finish(error)
        if self._answer and self._answer.ended:
            if not self._answer.keeps:
                self.close()
            self._finish(None)

    def connection_lost(self, error: Exception | None) -> None:
        """As asyncio calls it; what had arrived is fed first."""
        self.is_open = False
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        """An answer that tells no length ends with its connection; any other is cut off."""
        if self._answer is None:
            return
        if error or not self._answer.moment_s:
            return self._finish(ConnectionResetError(str(error) if error else "the server closed the connection without a word"))
        lasts = {"content-length", "transfer-encoding"} & self._answer.headers.keys()
        self._finish(None if self._answer.status and not lasts else StreamError(CUT_OFF))

    def _finish(self, error: Exception | None) -> None:
        for future in (self._left, self._done):
            if future and not future.done():
                if error:
                    return future.set_exception(error)
                future.set_result(None)


class Client:
    """One connection to an endpoint, made anew where it was closed; for one request at a time. `now_s` is the measurement's clock,
    `timeout_s` the longest wait for the next piece of text."""

    def __init__(self, endpoint: Endpoint, now_s: Callable[[], float], timeout_s: float):
        self.endpoint, self.now_s, self.timeout_s = endpoint, now_s, timeout_s
        self._wire: _Wire | None = None

    async def connect(self) -> None:
        """Make the connection unless it stands. Raises OSError where nobody answers."""
        if self._wire and self._wire.is_open:
            return
        here, connect = self.endpoint, asyncio.get_running_loop().create_connection
        named = {"ssl": here.tls, "server_hostname": here.host} if here.tls else {}
        try:
            async with asyncio.timeout(CONNECT_S):
                _, self._wire = await connect(lambda: _Wire(self.now_s), here.host, here.port, **named)
        except TimeoutError:
            raise ConnectionRefusedError(f"none within {CONNECT_S:g} s") from None
        except UnicodeError as error:
            raise ConnectionRefusedError(str(error)) from None

    def close(self) -> None:
        if self._wire:
            self._wire.close()

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_) -> None:
        self.close()
        await asyncio.sleep(0)  # asyncio ends its transport in the loop's next round

    async def ask(self, body: dict, due_s: float) -> Reply:
        """The reply to a request that was due at `due_s`; what goes wrong is in it. 429 and 503 are retried up to five times after the time
        that Retry-After asks for, else after 1, 2, 4 ... s, at most 30 s; the waiting counts as latency. All of it takes `longest_s` at
        most."""
        content, tokens, loop = json.dumps(body).encode(), body.get("max_tokens", 0), asyncio.get_running_loop()
        until_s = loop.time() + longest_s(self.timeout_s, tokens)
        for attempt in range(RETRIES + 1):
            answer = _Answer(RUNAWAY * tokens + STEADY_TOKENS)
            sent_s, failure, reason = await self._try(content, answer, until_s)
            wait_s = answer.retry_after_s(2.0**attempt)
            if answer.status not in TURNED_AWAY or attempt == RETRIES or loop.time() + wait_s > until_s:
                break
            await asyncio.sleep(wait_s)
        tokens_in, told, cached = answer.usage
        tokens_out, reason = len(answer.moments_s) if told is None else told, excerpt(self.endpoint.redacted(reason))
        counts = (tokens_in, tokens_out, told is not None, cached or 0)
        came = (failure, reason, answer.status, attempt, tokens, len(content), "".join(answer.texts))
        return Reply(due_s, sent_s, self.now_s(), tuple(answer.moments_s), *counts, *came)

    async def _try(self, content: bytes, answer: _Answer, until_s: float) -> tuple[float, str, str]:
        """One attempt: when it had left, and what went wrong, of which kind and in words, "" if nothing did."""
        sent_s, failure, reason = [self.now_s()], "", ""
        try:
            await self._exchange("POST", self.endpoint.completions, content, answer, sent_s, until_s)
            answer.close()
            if answer.status != OK:
                failure, reason = HTTP, answer.refusal()
        except TimeoutError as error:
            failure, reason = TIMEOUT, str(error)
        except (ConnectionResetError, StreamError) as error:
            failure, reason = BROKEN, str(error) or type(error).__name__
        except OSError as error:
            failure, reason = REFUSED, f"no connection ({error or type(error).__name__})"
        if failure not in ("", HTTP):
            self.close()
        return sent_s[-1], failure, reason

    async def _exchange(self, method: str, url: str, content: bytes, answer: _Answer, sent_s: list[float], until_s: float) -> None:
        """Send a request and read its answer; one that met a kept connection which the server had closed is sent again."""
        _, _, host, path = url.split("/", 3)
        lines = [f"{method} /{path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(content)}", "Content-Type: application/json"]
        lines += [f"Authorization: Bearer {self.endpoint.key}"] if self.endpoint.key else []
        request = "\r\n".join([*lines, "", ""]).encode() + content
        while True:
            await self.connect()
            wire, kept = self._wire, self._wire.was_used
            try:
                return await wire.exchange(request, answer, sent_s, self.timeout_s, until_s)
            except ConnectionResetError:
                self.close()
                if not kept or answer.moment_s:
                    raise

    async def models(self) -> tuple[int, str]:
        answer, until_s = _Answer(0), asyncio.get_running_loop().time() + self.timeout_s
        await self._exchange("GET", self.endpoint.base + "/models", b"", answer, [], until_s)
        return answer.status, self.endpoint.redacted(answer.content.decode(errors="replace"))


def longest_s(timeout_s: float, tokens: int) -> float:
    """The longest [s] that a reply of so many tokens may take, its retries included: three `timeout_s`, and one for each 64 tokens."""
    return timeout_s * (FIRST_TIMEOUTS + tokens / STEADY_TOKENS)


class Slots:
    """Connections to an endpoint, one for each request in flight, made before they are needed and kept."""

    def __init__(self, endpoint: Endpoint, now_s: Callable[[], float], timeout_s: float):
        self._make = lambda: Client(endpoint, now_s, timeout_s)
        self._all: list[Client] = []

    async def open(self, count: int) -> None:
        """Make so many connections, a few at once; one that cannot be made is tried again, and reported, by its first request."""
        self._all = [self._make() for _ in range(count)]
        self._free = list(self._all)
        for i in range(0, count, CONNECTING):
            await asyncio.gather(*(client.connect() for client in self._all[i : i + CONNECTING]), return_exceptions=True)

    async def ask(self, body: dict, due_s: float) -> Reply:
        if not self._free:
            self._free.append(self._make())
            self._all.append(self._free[0])
        client = self._free.pop()
        try:
            return await client.ask(body, due_s)
        finally:
            self._free.append(client)

    async def close(self) -> None:
        for client in self._all:
            client.close()
        await asyncio.sleep(0)
