"""Whether our client sees a server as it is: one of known timing, in a process of its own, under closed and open loads. One JSON line.

    python benchmarks/serving_timing.py [--quick] [--loads closed:16 ...] [--repeat N] [--window S]

The server sends its first token 100 ms after a request has arrived and one each 20 ms after that, and notes when it really did: on a busy
machine its own notes are the truth, not the plan. It asks for real-time priority, so that it reads at once what has arrived (`realtime`);
without it its own delay in reading is missing in its notes and stands as an error of the client. Both processes read one monotonic clock.
For each load stand the truth and what the client found, for the time to first token and between tokens (p50, p95, p99), tokens per second,
the client's CPU time a token, and that of a bare loop that only counts the pieces. `ok`: every quantile is within 5 % or 5 ms of the
truth, the throughput within 1 %, or the window says `client_late`. With `--repeat` each load runs so often, and `flag` counts the windows
by whether they were within and whether they said so.
"""

import argparse
import asyncio
import itertools
import json
import os
import resource
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager

import numpy as np

TTFT_S, ITL_S, TOKENS = 0.1, 0.02, 16
SERVICE_S = TTFT_S + (TOKENS - 1) * ITL_S
QUANTILES = (0.5, 0.95, 0.99)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Known(asyncio.Protocol):
    """The server's side of one connection; `notes` are (arrived, moments of sending) of every reply, on the monotonic clock."""

    notes: tuple[list, list] = ([], [])

    def connection_made(self, transport) -> None:
        """As asyncio calls it."""
        self.transport, self.received, self.loop = transport, b"", asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        """As asyncio calls it: one request at a time."""
        now_s = self.loop.time()
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
        if not found or len(body) < length:
            return
        self.received = b""
        if head.startswith(b"GET"):
            return self._page({"data": []} if b"/models" in head.split(b"\r\n")[0] else {"notes": self.notes[0]})
        asked = json.loads(body)
        words = len(asked["messages"][0]["content"].split())
        usage = {"usage": {"prompt_tokens": words, "completion_tokens": asked["max_tokens"]}}
        if not asked.get("stream"):
            return self._page({"choices": [{"message": {"content": "w"}, "finish_reason": "length"}]} | usage)
        self.transport.write(HEAD)
        sent: list[float] = []
        for k in range(asked["max_tokens"]):
            self.loop.call_at(now_s + TTFT_S + k * ITL_S, self._token, k, asked["max_tokens"], sent, usage)
        self.notes[0].append((now_s, sent))

    def _token(self, k: int, tokens: int, sent: list[float], usage: dict) -> None:
        if self.transport.is_closing():
            return
        last = k == tokens - 1
        text = _event({"choices": [{"index": 0, "delta": {"content": "w "}, "finish_reason": None}]})
        text += (_event({"choices": [{"delta": {}, "finish_reason": "length"}]} | usage) + b"data: [DONE]\n\n") if last else b""
        sent.append(self.loop.time())
        self.transport.write(b"%x\r\n%b\r\n" % (len(text), text) + (b"0\r\n\r\n" if last else b""))

    def _page(self, content: dict) -> None:
        text = json.dumps(content).encode()
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text)


def _event(content: dict) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


async def serve() -> None:
    """Serve until standard input is closed; port and whether it runs in real time are the first line of standard output."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        realtime = True
    except (AttributeError, PermissionError):
        realtime = False
    server = await asyncio.get_running_loop().create_server(Known, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], int(realtime), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


@contextmanager
def known_server():
    """The address of a server in a process of its own, and whether it runs in real time."""
    process = subprocess.Popen([sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        port, realtime = process.stdout.readline().split()
        yield f"http://127.0.0.1:{port}", realtime == "1"
    finally:
        process.kill()
        process.communicate()


def notes(url: str) -> list[tuple[float, list[float]]]:
    """What the server noted of every reply."""
    with urllib.request.urlopen(f"{url}/notes") as answer:
        return json.loads(answer.read())["notes"]


def quantiles(values) -> list[float]:
    """p50, p95 and p99 in seconds; NaN of nothing."""
    values = list(values)
    return [round(float(q), 5) for q in np.quantile(values, QUANTILES)] if values else [float("nan")] * len(QUANTILES)


def one(text: str, window_s: float) -> dict:
    """A load on a fresh server: truth, what was found, and the CPU time of a token."""
    from eai.serving.client import endpoint
    from eai.serving.session import Session
    from eai.serving.traffic import Tally
    from eai.settings import load

    with known_server() as (url, realtime):
        session = Session(endpoint(url), "known", 30.0).open()
        traffic = session.traffic(load(text), 32, TOKENS, time.monotonic, seed=3)
        traffic.start()
        time.sleep(4 * SERVICE_S)
        start_s = time.monotonic()
        time.sleep(window_s)
        stop_s = time.monotonic()
        traffic.stop(30.0)
        told = notes(url)
    tally = Tally(traffic.replies, start_s, stop_s, load(text), traffic.beats)
    inside = [r for r in traffic.replies if r.ok and start_s < r.moments_s[0] <= stop_s]
    true = [(arrived, sent) for arrived, sent in told if start_s < sent[0] <= stop_s]
    gaps = [g for r in traffic.replies if r.ok for g in r.gaps_between_s(start_s, stop_s)]
    true_gaps = [b - a for _, sent in told for a, b in itertools.pairwise(sent) if start_s < b <= stop_s]
    beats = [b for b in traffic.beats if start_s < b.moment_s <= stop_s]
    tokens = tally.tokens_out
    found = {
        "ttft_s": quantiles(r.ttft_s for r in inside),
        "ttft_true_s": quantiles(sent[0] - arrived for arrived, sent in true),
        "itl_s": quantiles(gaps),
        "itl_true_s": quantiles(true_gaps),
        "tok_s": round(tokens / (stop_s - start_s), 1),
        "tok_true_s": round(sum(start_s < s <= stop_s for _, sent in told for s in sent) / (stop_s - start_s), 1),
        "client_cpu_us_per_token": round(1e6 * (beats[-1].cpu_s - beats[0].cpu_s) / (tokens or 1), 1) if beats else float("nan"),
        "client_late": tally.is_client_late(),
        "failed": sum(not r.ok for r in traffic.replies),
    }
    pairs = [p for name in ("ttft", "itl") for p in zip(found[f"{name}_s"], found[f"{name}_true_s"], strict=True)]
    close = all(abs(seen - true) <= max(0.05 * true, 0.005) for seen, true in pairs)
    found["realtime"] = realtime
    found["within"] = close and abs(found["tok_s"] / found["tok_true_s"] - 1) <= 0.01 and not found["failed"]
    return found


class Bare(asyncio.Protocol):
    """The least that a client can do: count the pieces and ask again."""

    tokens = 0

    def connection_made(self, transport) -> None:
        """As asyncio calls it."""
        body = json.dumps({"max_tokens": TOKENS, "stream": True, "messages": [{"content": "w"}]}).encode()
        self.request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """As asyncio calls it."""
        Bare.tokens += data.count(b'"content"')
        if data.endswith(b"0\r\n\r\n"):
            self.transport.write(self.request)


async def bare(url: str, count: int, window_s: float) -> float:
    """CPU seconds a token of a bare loop with so many requests in flight."""
    port, loop = int(url.rpartition(":")[2]), asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_connection(Bare, "127.0.0.1", port)
    await asyncio.sleep(2 * SERVICE_S)
    before, tokens = resource.getrusage(resource.RUSAGE_THREAD), Bare.tokens
    await asyncio.sleep(window_s)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    spent_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent_s / max(Bare.tokens - tokens, 1)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1 and 16 in flight, 2 s each")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--loads", nargs="+", help="in place of 1, 16, 64 and 256 in flight")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--window", type=float, help="seconds, 6 by default")
    arguments = parser.parse_args()
    if arguments.serve:
        return asyncio.run(serve())
    counts, window_s = ((1, 16), 2.0) if arguments.quick else ((1, 16, 64, 256), 6.0)
    window_s = arguments.window or window_s
    loads = arguments.loads or [f"closed:{n}" for n in counts] + [f"open:{n / SERVICE_S:g}" for n in counts]
    runs = [(text, one(text, window_s)) for _ in range(arguments.repeat) for text in loads]
    if arguments.repeat > 1:
        flags = Counter(
            (text, f"{'within' if f['within'] else 'off'}, {'flagged' if f['client_late'] else 'not flagged'}") for text, f in runs
        )
        flag = {text: {kind: n for (load, kind), n in flags.items() if load == text} for text in loads}
        silent = [f | {"load": text} for text, f in runs if not f["within"] and not f["client_late"]]
        print(json.dumps({"benchmark": "serving_timing", "flag": flag, "off_and_silent": silent, "ok": not silent}))
        return None
    found = dict(runs)
    with known_server() as (url, _):
        bare_us = 1e6 * asyncio.run(bare(url, counts[-1], window_s))
    ours = found[f"closed:{counts[-1]}"]["client_cpu_us_per_token"] if not arguments.loads else float("nan")
    cpu = {"bare_cpu_us_per_token": round(bare_us, 1), "client_to_bare": round(ours / bare_us, 2)}
    ok = all(f["within"] or f["client_late"] for f in found.values())
    print(json.dumps({"benchmark": "serving_timing", "loads": found} | cpu | {"ok": ok}))


if __name__ == "__main__":
    main()
