"""One request over HTTP: sent, streamed back with the time of each piece, retried where the server asks for it, never lost.

A connection is kept for the next request. A server may have closed it by then, and llama.cpp's does so after every streamed reply although
it promises to keep it; the request that met the closed connection was never read, and is sent again on a new one (RFC 9112, section 9.3.1).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from eai.serving import stream
from eai.serving.endpoint import Endpoint
from eai.serving.reply import BROKEN, HTTP, REFUSED, TIMEOUT, Reply

CONNECT_S = 10.0
RETRIES, RETRY_CAP_S = 5, 30.0
TURNED_AWAY = (429, 503)


def connection(endpoint: Endpoint) -> httpx.AsyncClient:
    """A client with as many connections as there are requests. Proxies and stored passwords of the environment are not used.

    It waits for data without a limit of its own: `ask` has one, for the next piece of text.
    """
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(headers=endpoint.headers, timeout=httpx.Timeout(None, connect=CONNECT_S), limits=limits, trust_env=False)


@dataclass
class _Notes:
    """What is known of a reply while it comes in."""

    moments_s: list[float] = field(default_factory=list)
    tokens_in: int | None = None
    tokens_out: int | None = None
    tokens_cached: int = 0
    finished: bool = False

    def take(self, event: stream.Event, now_s: float) -> None:
        if event.text:
            self.moments_s.append(now_s)
        self.tokens_in = self.tokens_in if event.tokens_in is None else event.tokens_in
        self.tokens_out = self.tokens_out if event.tokens_out is None else event.tokens_out
        self.tokens_cached = event.tokens_cached or self.tokens_cached
        self.finished = self.finished or event.finished or event.last

    def reply(self, due_s: float, sent_s: float, ended_s: float, **fault: Any) -> Reply:
        counted = len(self.moments_s) if self.tokens_out is None else self.tokens_out
        by_usage = self.tokens_out is not None
        return Reply(due_s, sent_s, ended_s, tuple(self.moments_s), self.tokens_in, counted, by_usage, self.tokens_cached, **fault)


@dataclass(frozen=True)
class Client:
    """Sends requests to one endpoint on one connection pool; `now_s` is the measurement's clock, `timeout_s` the longest wait for text."""

    http: httpx.AsyncClient
    endpoint: Endpoint
    now_s: Callable[[], float]
    timeout_s: float

    async def ask(self, body: dict, due_s: float) -> Reply:
        """The reply to a request that was due at `due_s`. What goes wrong is in the reply; nothing is raised but a cancellation.

        429 and 503 are retried up to five times after the time that Retry-After asks for, else after 1, 2, 4 ... s, at most 30 s;
        the waiting counts as latency.
        """
        reply, after_s = await self._try(body, due_s)
        for attempt in range(1, RETRIES + 1):
            if reply.http_status not in TURNED_AWAY:
                break
            await asyncio.sleep(min(2.0 ** (attempt - 1) if after_s is None else after_s, RETRY_CAP_S))
            reply, after_s = await self._try(body, due_s)
            reply = replace(reply, retries=attempt)
        return reply

    async def _try(self, body: dict, due_s: float) -> tuple[Reply, float | None]:
        """One attempt, and the wait [s] that a server which turned it away asks for."""
        sent_s, notes = self.now_s(), _Notes()
        fault: dict[str, Any] = {}
        after_s = None
        try:
            async with asyncio.timeout(self.timeout_s) as limit, self._sent(body) as answer:
                if answer.status_code != httpx.codes.OK:
                    fault, after_s = await _refusal(answer), _retry_after_s(answer)
                else:
                    await self._read(answer, notes, limit)
        except TimeoutError:
            fault = {"failure": TIMEOUT, "reason": f"no text for {self.timeout_s:g} s"}
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            fault = {"failure": REFUSED, "reason": f"no connection ({stream.excerpt(str(error)) or type(error).__name__})"}
        except (stream.StreamError, httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, UnicodeDecodeError) as error:
            fault = {"failure": BROKEN, "reason": stream.excerpt(str(error)) or type(error).__name__}
        return notes.reply(due_s, sent_s, self.now_s(), **fault), after_s

    @contextlib.asynccontextmanager
    async def _sent(self, body: dict) -> AsyncIterator[httpx.Response]:
        """The answer to a request, its head read; one that met a kept connection which the server had closed is sent again.

        Whether a connection was kept shows in that none was made: a new one that breaks is the server's fault and raised. There can be as
        many closed ones in the pool as requests were in flight.
        """
        made: list[str] = []

        async def trace(event: str, _: dict) -> None:
            made.extend([event] if event == "connection.connect_tcp.started" else [])

        while True:
            request = self.http.build_request("POST", self.endpoint.completions, json=body, extensions={"trace": trace})
            try:
                answer = await self.http.send(request, stream=True)
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                if made:
                    raise
                continue
            try:
                yield answer
            finally:
                await answer.aclose()
            return

    async def _read(self, answer: httpx.Response, notes: _Notes, limit: asyncio.Timeout) -> None:
        """Read a stream, or a whole reply where the server does not stream. Raises StreamError for a reply that is broken or cut off."""
        if "text/event-stream" not in answer.headers.get("content-type", ""):
            return notes.take(_whole(await answer.aread()), self.now_s())
        async for line in answer.aiter_lines():
            if event := stream.event(line):
                notes.take(event, self.now_s())
                if event.text:
                    limit.reschedule(asyncio.get_running_loop().time() + self.timeout_s)
        if not notes.finished:
            raise stream.StreamError("the reply was cut off before its end")


def _whole(content: bytes) -> stream.Event:
    """The event of a reply in one piece."""
    try:
        return stream.completion(httpx.Response(200, content=content).json())
    except ValueError:
        raise stream.StreamError(f"a reply that is not JSON: {stream.excerpt(content.decode(errors='replace'))}") from None


async def _refusal(answer: httpx.Response) -> dict[str, Any]:
    """The fault of an answer that is not 200, in the server's own words."""
    content = (await answer.aread()).decode(errors="replace")
    try:
        words = stream.message(answer.json())
    except ValueError:
        words = stream.excerpt(content)
    return {"failure": HTTP, "http_status": answer.status_code, "reason": f"HTTP {answer.status_code}: {words}".rstrip(": ")}


def _retry_after_s(answer: httpx.Response) -> float | None:
    """The seconds of a Retry-After header; None where there is none or it is a date."""
    try:
        return max(float(answer.headers.get("retry-after", "")), 0.0)
    except ValueError:
        return None
