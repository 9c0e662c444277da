"""What goes wrong on purpose, and what became of it: kills, signals, damaged stores, bad inputs, hostile servers; prints one JSON line.

    python benchmarks/faults.py [--quick] [--seed N] [--part kills signals disk corruptions inputs servers]

Each case ends in one of these, and only the first two are right:

    refused     one line that says what was found; nothing was stored
    kept        everything announced is there, once, and equal to what was written; a fault is in the numbers' status or a reason
    traceback   an exception that no user is meant to read
    silent      a wrong number, or a right one lost or doubled, without a word
    endless     not over within the time that is stated beforehand

The sweep as a whole is killed by `chaos.py`; here it is the store's writer. A seed gives the same cases each time.
"""

import argparse
import asyncio
import contextlib
import errno
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from eai import schema, settings, store, tables
from eai.errors import UserError
from eai.jobs import named_gpus
from eai.power.derive import replay
from eai.serving.client import Client, endpoint, longest_s

OUTCOMES = ("refused", "kept", "traceback", "silent", "endless")
CONFIGURATION = settings.Configuration(gpu="g", model="m", quantization="fp16", batch_size=2, input_tokens=8, output_tokens=16)
TIMEOUT_S, TOKENS = 0.3, 16
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


def row(block: int) -> dict:
    """A window that contradicts nothing."""
    empty = {c.name: None for c in schema.WINDOWS} | {
        "flags": [],
        "reason": "",
        "status": "ok",
        "basis": "measured",
        "job": "j",
        "repeat": 1,
    }
    counts = {"calls": 2, "requests": 4, "tokens_in": 32, "tokens_out": 64, "start_s": 10.0, "stop_s": 12.0, "duration_s": 2.0}
    key = {"block": block, "repeat": 1, "configuration_id": CONFIGURATION.configuration_id, "attempt": store.new_attempt()}
    return empty | CONFIGURATION.columns() | counts | key


def energy(block: int) -> dict:
    """Its energy, which tells the block."""
    fixed = {"device_id": "d", "boundary": "gpu", "method": "counter", "primary": True, "basis": "measured", "status": "ok"}
    return dict.fromkeys(c.name for c in schema.ENERGIES[5:]) | fixed | {"energy_j": 100.0 + block}


def readings() -> pd.DataFrame:
    """Its readings."""
    frame = pd.DataFrame({"t_s": [10.0, 11.0, 12.0], "device_id": "d", "boundary": "gpu", "field": "power_instant_w", "value": 5.0})
    return frame.assign(driver_t_us=np.nan, latency_us=np.nan)


def write(directory: str, blocks: int) -> None:
    """Append windows for ever, or so many, saying each: the writer that is killed."""
    with store.JobStore(Path(directory)) as job:
        job.append_provenance({"schema": schema.VERSION, "settings": {}})
        start = 1 + max([key[0] for key in job.done()], default=0)
        for block in range(start, start + blocks):
            job.append_window(row(block), [energy(block)], readings())
            job.compact(block)
            print(block, flush=True)


def intact(experiment: Path, announced: set[int]) -> str:
    """kept, or silent where what was announced is missing, doubled or different."""
    windows, energies, samples = tables.read_windows(experiment), tables.read_energies(experiment), tables.read_samples(experiment)
    blocks = sorted(windows["block"])
    right = announced <= set(blocks) and blocks == list(range(1, len(blocks) + 1))
    right &= sorted(energies["energy_j"]) == [100.0 + b for b in blocks] and len(samples) == 3 * len(blocks)
    return "kept" if right and store.check(experiment)[0] == [] else "silent"


def killed(signals: list[signal.Signals], rng: random.Random) -> list[str]:
    """Writers of one job, each ended at a random moment; after each everything announced must be there."""
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        job, announced = Path(place) / "experiment" / "j", set()
        for number in signals:
            command = [sys.executable, __file__, "--write", str(job)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            announced.add(int(process.stdout.readline()))
            time.sleep(rng.uniform(0, 0.15))
            process.send_signal(number)
            announced |= {int(line) for line in process.stdout.read().split()}
            process.wait()
            outcomes.append(judged(partial(intact, job.parent, announced)))
    return outcomes


def disk(sizes: list[int]) -> list[str]:
    """A disk that fills: no file may grow beyond a size (setrlimit). What was announced must be there, and the next writer goes on."""
    outcomes = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            job = Path(place) / "experiment" / "j"
            command = [sys.executable, __file__, "--write", str(job), "--full", str(size)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            announced = {int(line) for line in done.stdout.split()}

            def after(job=job, announced=announced) -> str:
                with contextlib.redirect_stdout(None):
                    write(str(job), 2)
                return intact(job.parent, announced)

            outcomes.append(judged(after))
    return outcomes


def judged(work) -> str:
    """What became of a piece of work that returns an outcome."""
    try:
        return work()
    except UserError as error:
        return "refused" if "\n" not in str(error) else "traceback"
    except Exception:
        return "traceback"


def edits(rng: random.Random, count: int):
    """(name, change of a job's folder): bytes flipped, cut, doubled and removed; values, types and keys of lines changed."""
    files = ("windows.jsonl", "energies.jsonl", "provenance.jsonl", "samples/0001.parquet")

    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)

    def cut(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: rng.randrange(len(content))])

    def twice(path: Path) -> None:
        path.write_bytes(path.read_bytes() * 2)

    def value(path: Path) -> None:
        if path.suffix != ".jsonl":
            frame = pd.read_parquet(path)
            frame.iloc[: rng.randrange(1, len(frame))].to_parquet(path, index=False)
            return
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        one = rng.choice(rows)
        name = rng.choice(sorted(one))
        one[name] = rng.choice([None, -1, 0, 1e15, "x", [], {}, True, float("nan"), 0.5, 3])
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))

    for _ in range(count):
        yield rng.choice(files), rng.choice((flip, cut, twice, value, Path.unlink))


def corrupted(rng: random.Random, count: int) -> list[str]:
    """A store with one thing changed by hand: every change must be refused or found by the checks of `replay`, or change nothing read."""
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        original = Path(place) / "original" / "j"
        with contextlib.redirect_stdout(None):
            write(str(original), 4)
        plain = read(original.parent)
        for k, (name, change) in enumerate(edits(rng, count)):
            copy = Path(place) / f"copy{k}"
            shutil.copytree(original.parent, copy)
            change(copy / "j" / name)

            def look(copy=copy) -> str:
                found, _ = store.check(copy)
                now = read(copy)
                replay(*now[:2], now[2])
                same = all(a.equals(b) for a, b in zip(plain, now, strict=True))
                return "kept" if found or same else "silent"

            outcomes.append(judged(look))
    return outcomes


def read(experiment: Path) -> tuple[pd.DataFrame, ...]:
    """Everything an analysis reads."""
    return tables.read_windows(experiment), tables.read_energies(experiment), tables.read_samples(experiment)


TEXTS = (
    "blocks: true", "blocks: 010", "blocks: 1:30", "blocks: 1\nblocks: 2", "blocks: 0x10", "blocks: 1_0", "blocks: -1", "blocks: .nan",
    "blocks: 2.5", "seed: -1", "window_s: .inf", "window_s: .nan", "window_s: 0", "window_s: -1", "idle_s: 1e999", "warmup_cap_s: -.inf",
    "threads: -1", "blocks: " + "9" * 5000, "x: " + "[" * 3000, "a: &a [1]\nmodels: *a", "!!python/object:os.system {}", "- 1", "",
    "text", "{", "\x00", "experiment: " + "x" * 300, "experiment: ../out", "experiment: ''", "models: [" + "m" * 400 + "]", "models: []",
    "models: [a, a]", "models: {a: 1}", "gpus: [cpu, [cpu]]", "gpus: [nothing-of-this-name]", "quantizations: [int5]",
    "batch_sizes: [0]", "batch_sizes: [1, 1]", "batch_sizes: ['1, 010']", "tasks: [nothing]", "loads: [closed:0]", "loads: [open:nan]",
    "server: http://me:pw@host\nserver_name: x", "server: file:///etc/passwd\nserver_name: x", "server: http://h:99999\nserver_name: x",
    "server_timeout_s: .inf", "kv_cache: maybe", "compile: true", "unknown: 1", "1: 2", "? [a]\n: 1", "meter: wattmeter", "limit: 0",
    "fewshot: 3", "trust_remote_code: 7", "baseline: best",
)  # fmt: skip
"""Sweeps of which none can be measured as it stands."""


def inputs(rng: random.Random, count: int) -> list[str]:
    """Sweeps that cannot be meant: the given ones, and bytes at random."""
    outcomes = []
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "sweep.yaml"
        contents = [text.encode() for text in TEXTS] + [rng.randbytes(rng.randrange(1, 200)) for _ in range(count)]
        for content in contents:
            path.write_bytes(content)

            def look() -> str:
                sweep = settings.read_sweep(path)
                named_gpus(sweep)
                return "silent"

            outcomes.append(judged(look))
    return outcomes


def event(content: dict) -> bytes:
    """One event of a stream."""
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def streams(told) -> bytes:
    """A whole reply of 16 pieces whose usage tells something."""
    pieces = b"".join(event({"choices": [{"delta": {"content": "w"}}]}) for _ in range(TOKENS))
    usage = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": told}})
    return SSE + pieces + event({"choices": [{"delta": {}, "finish_reason": "length"}]}) + usage + b"data: [DONE]\n\n"


def hostile(rng: random.Random, count: int) -> list[tuple[bytes, bytes, float]]:
    """(first bytes, bytes for ever after, pause [s]) of servers that do not behave."""
    piece = event({"choices": [{"delta": {"content": "w"}}]})
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    endless = [(b"", b"", 0.0), (SSE, b": ping\n\n", 0.01), (SSE, piece, 0.0), (SSE, piece, 0.1), (SSE, b"x" * 100_000, 0.0)]
    endless += [(SSE, b"\n", 0.0), (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n", 0.001), (interim, interim, 0.001), (b"H", b"T", 0.01)]
    wrong = [streams(told) for told in (0, -1, 1, 17, 136, 10**15, -(10**15), 1.5, "16", True, [16], {}, 1e308)]
    junk = [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"HTTP/2 200\r\n\r\n", b"\x16\x03\x01\x02", b"HTTP/1.1 999 x\r\n\r\n"]
    junk += [b"HTTP/1.1 204 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", SSE + piece]
    texts = (b"[", b"[" * 50_000, b"null", b"1e999", b'"x"', b'{"choices": 3}', b'{"choices": [3]}', b"\xff\xfe", b'{"error": {}}')
    junk += [SSE + b"data: " + text + b"\n\n" for text in (*texts, b'{"choices": [{"delta": "x"}]}')]
    drawn = [SSE + rng.randbytes(200) for _ in range(count)] + [rng.randbytes(50) for _ in range(count)]
    return endless + [(each, b"", -1.0) for each in wrong + junk + drawn]


async def met(first: bytes, again: bytes, pause_s: float) -> str:
    """What becomes of a request to a server that says `first`, then `again` for ever, or closes (a pause below 0)."""

    async def serve(reader, writer) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while pause_s >= 0:
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(pause_s if again else 0.1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    here = endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
    began_s = time.monotonic()
    async with Client(here, time.monotonic, TIMEOUT_S) as client:
        reply = await client.ask({"model": "m", "max_tokens": TOKENS}, began_s)
    server.close()
    if time.monotonic() - began_s > longest_s(TIMEOUT_S, TOKENS) + 2.0:
        return "endless"
    if reply.ok and not reply.miscount():
        return "silent"
    return "refused" if "\n" not in reply.reason + reply.miscount() else "traceback"


def servers(rng: random.Random, count: int) -> list[str]:
    """Servers that hang, trickle, miscount, or send what is no reply."""

    def one(case) -> str:
        return judged(lambda: asyncio.run(asyncio.wait_for(met(*case), 60.0)))

    return [one(case) for case in hostile(rng, count)]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the cases that are drawn")
    parser.add_argument("--part", nargs="+", choices=("kills", "signals", "disk", "corruptions", "inputs", "servers"))
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--full", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        if arguments.full:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.full, arguments.full))
        try:
            return write(arguments.write, 10_000)
        except OSError as error:
            sys.exit(f"the disk is full ({errno.errorcode[error.errno]})")
    n, rng = 1 if arguments.quick else 5, random.Random(arguments.seed)
    work = {
        "kills": lambda: killed([signal.SIGKILL] * 5 * n, rng),
        "signals": lambda: killed([signal.SIGTERM, signal.SIGINT, signal.SIGHUP] * n, rng),
        "disk": lambda: disk([rng.randrange(2_000, 40_000) for _ in range(2 * n)]),
        "corruptions": lambda: corrupted(rng, 60 * n),
        "inputs": lambda: inputs(rng, 60 * n),
        "servers": lambda: servers(rng, 6 * n),
    }
    found = {name: Counter(work[name]()) for name in arguments.part or work}
    counts = {name: {outcome: each.get(outcome, 0) for outcome in OUTCOMES} for name, each in found.items()}
    wrong = sum(each[outcome] for each in counts.values() for outcome in ("traceback", "silent", "endless"))
    print(json.dumps({"benchmark": "faults", "cases": sum(sum(each.values()) for each in counts.values())} | counts | {"ok": wrong == 0}))


if __name__ == "__main__":
    main()
