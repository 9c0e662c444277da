"""A server of known behaviour, in place of a real one: first token and gaps by the clock, faults on demand, no model behind it.

It answers with real HTTP on a free loopback port, so a client under test cannot tell the difference, and what a measurement of it must
find is known beforehand: token k of a request is sent at start + ttft_s + k itl_s, where a request starts once one of `slots` is free.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Behaviour:
    """How the server answers.

    `burn_s`: CPU time that a piece of text costs; `per_piece`: tokens in one piece; `words`: tokens of a natural answer; `obeys`: the
    fields it knows beside the protocol's own (others are refused if `strict`); `usage`: always, asked (only with stream_options) or never;
    `ftype`: the format that its list of models tells; `busy`: the first so many requests get `busy_status` and `retry_after`; `fault`: ""
    or what follows the first token (silent, garbage, error, cut), or page instead of all; `caches`: it has the template from earlier
    requests unless cache_prompt is false; `told`: completion_tokens that its usage tells, whatever it sent; `fails_after`: so many replies
    are good and all later ones silent; `forgets`: it promises to keep the connection and closes it when the next request comes.
    """

    ttft_s: float = 0.05
    itl_s: float = 0.01
    burn_s: float = 0.0
    slots: int = 64
    words: int = 5
    per_piece: int = 1
    usage: str = "asked"
    obeys: tuple[str, ...] = ("ignore_eos", "min_tokens")
    strict: bool = False
    model: str = "fake"
    lists_models: bool = True
    ftype: str = ""
    busy: int = 0
    busy_status: int = 429
    retry_after: str | None = None
    status: int = 200
    fault: str = ""
    template_tokens: int = 10
    caches: bool = False
    forgets: bool = False
    told: int | None = None
    fails_after: int = 0


@dataclass
class FakeServer:
    """The server on a thread of its own: `with FakeServer(Behaviour()) as server:` and `server.url`; `bodies` are the requests it got."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    bodies: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> "FakeServer":
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="eai-fake-server", daemon=True)
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(self, *_) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _main(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        self._slots, self._writers = asyncio.Semaphore(self.behaviour.slots), set()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._over.wait()
        server.close()
        for _ in range(5):  # a connection may still arrive, and one that the loop leaves open warns when it is collected
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request a connection, whatever it promised."""
        self._writers.add(writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
            parts = self._answer(head[0].split()[1], headers, json.loads(content or b"{}"))
            async for part in _kept(parts) if self.behaviour.forgets else parts:
                writer.write(part)
                await writer.drain()
            if self.behaviour.forgets:
                await reader.read(1)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, path: str, headers: dict, body: dict) -> AsyncIterator[bytes]:
        """The bytes of the response."""
        b = self.behaviour
        if path.endswith("/models"):
            meta = {"meta": {"ftype": b.ftype}} if b.ftype else {}
            listed = {"object": "list", "data": [{"id": b.model, "object": "model", "owned_by": "nobody"} | meta]}
            yield _whole(200 if b.lists_models else 500, listed if b.lists_models else {"detail": "no list"})
            return
        self.bodies.append(body)
        self.headers.append(headers)
        if refusal := self._refusal(path, body):
            yield refusal
            return
        async with self._slots:
            begin_s = self._loop.time()
            if not body.get("stream"):
                await asyncio.sleep(b.ttft_s)
                yield _whole(200, {"choices": [{"message": {"content": "w"}, "finish_reason": "length"}], "usage": self._usage(body)})
                return
            yield _head(200, "text/html" if b.fault == "page" else "text/event-stream")
            async for part in self._stream(body, begin_s):
                yield part

    def _refusal(self, path: str, body: dict) -> bytes | None:
        """The response to a request that is turned away; None for one that is served."""
        b = self.behaviour
        if len(self.bodies) <= b.busy:
            return _whole(b.busy_status, {"error": {"message": "busy"}}, {"Retry-After": b.retry_after} if b.retry_after else {})
        if b.status != 200:
            return _whole(b.status, {"error": {"message": "broken inside"}})
        if body.get("model") != b.model:
            return _whole(404, {"error": {"message": f"The model `{body.get('model')}` does not exist.", "type": "NotFoundError"}})
        known = {"model", "max_tokens", "temperature", "stream", "messages", "prompt", "stream_options", *b.obeys}
        if b.strict and (unknown := sorted(body.keys() - known)):
            return _whole(422, {"detail": f"Unexpected fields in the request: {unknown}"})
        return None if path.endswith("/completions") else _whole(404, {"detail": "Not Found"})

    async def _stream(self, body: dict, begin_s: float) -> AsyncIterator[bytes]:
        b, chat = self.behaviour, "messages" in body
        if b.fault == "page":
            yield b"<html>Welcome</html>\n"
            return
        total = self._length(body)
        yield _event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}) if chat else b": comment\n\n"
        for k in range(0, total, b.per_piece):
            await asyncio.sleep(begin_s + b.ttft_s + k * b.itl_s - self._loop.time())
            _burn(b.burn_s)
            yield _event({"choices": [{"delta": {"content": "w "}} if chat else {"text": "w "}]})
            if b.fault or 0 < b.fails_after < len(self.bodies):
                if b.fault in ("silent", ""):
                    await asyncio.sleep(60)
                faults = {
                    "garbage": b"data: {oops\n\n",
                    "error": _event({"error": {"message": "out of memory"}}),
                    "cut": b"",
                    "silent": b"",
                    "": b"",
                }
                yield faults[b.fault]
                return
        usage = b.usage == "always" or (b.usage == "asked" and body.get("stream_options", {}).get("include_usage"))
        yield _event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        if usage:
            yield _event({"choices": [], "usage": self._usage(body) | {"completion_tokens": total if b.told is None else b.told}})
        yield b"data: [DONE]\n\n"

    def _length(self, body: dict) -> int:
        """Tokens of the reply: all that were asked for if it was told to go on in words it knows, else those of a natural answer."""
        endless = any(body.get(name) for name in self.behaviour.obeys)
        return body["max_tokens"] if endless else min(self.behaviour.words, body["max_tokens"])

    def _usage(self, body: dict) -> dict[str, Any]:
        """Two tokens a word, as many as a tokenizer of another language might find, and the template's."""
        text, template = body.get("prompt") or body["messages"][0]["content"], self.behaviour.template_tokens
        has = self.behaviour.caches and body.get("cache_prompt", True)
        details = {"prompt_tokens_details": {"cached_tokens": template if has else 0}}
        return {"prompt_tokens": template + 2 * len(text.split()), "completion_tokens": 1} | details


def _burn(cpu_s: float) -> None:
    """Use up so much CPU time."""
    until_s = time.thread_time() + cpu_s
    while time.thread_time() < until_s:
        pass


def _event(content: dict) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


def _head(status: int, kind: str, more: dict | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Type: {kind}", "Connection: close", *(f"{k}: {v}" for k, v in (more or {}).items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _kept(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same response in chunks, so that the connection could go on after it (RFC 9112, section 7.1)."""
    head, _, rest = (await anext(parts)).partition(b"\r\n\r\n")
    yield head.replace(b"Connection: close", b"Keep-Alive: timeout=5, max=100\r\nTransfer-Encoding: chunked") + b"\r\n\r\n"
    if rest:
        yield _chunk(rest)
    async for part in parts:
        yield _chunk(part)
    yield _chunk(b"")


def _chunk(content: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(content), content)


def _whole(status: int, content: dict, more: dict | None = None) -> bytes:
    return _head(status, "application/json", more) + json.dumps(content).encode()


if __name__ == "__main__":
    with FakeServer(Behaviour(**json.loads(sys.argv[1]))) as running:
        print(running.url, flush=True)
        sys.stdin.read()
