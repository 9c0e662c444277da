"""A server under test: somebody else's process, driven from outside at a stated load, its energy taken where it runs.

    ramp: until every slot has answered   warm up: until steady   window   drain: outside the window, so that straddling replies are counted

What runs in it cannot be verified through its protocol: model and quantization are as stated, and every window says so (`unverified`);
where the server's list of models tells a format (llama.cpp's does), the statement must agree with it. The server's processes are billed,
never this one's: its own CPU time is beside the energy as `client_cpu_s`.
"""

import contextlib
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any

from eai import catalog, machine, power, strategies
from eai.errors import UserError, WindowFault
from eai.jobs import PlannedWindow
from eai.measure.job import Protocol
from eai.measure.work import Warm
from eai.power import cpu, nvml
from eai.power.cpu import ServerProcesses, families, trees_cpu_s
from eai.power.meter import AbsentMeter, Clock, Meter
from eai.power.window import Steadiness, power_settled, steadiness
from eai.serving.client import endpoint, longest_s
from eai.serving.session import Session
from eai.serving.traffic import Tally, Traffic
from eai.settings import Configuration, Sweep, load
from eai.workload import models

POLL_S = 0.02
RAMP_LATENCIES, CYCLES = 2.0, 2.0
RAMP_LONGEST, REST_LONGEST = 2.0, 5.0  # of a window, in longest replies: the ramp; rounding to whole cycles, first completion and drain
PIECE_CPU_S = 5e-6  # that no program can undercut for a piece of text: the system calls that send it
PEAK_FLOP_S = 4e12  # more than a thread of any processor computes, matrix units in 8 bit included
UNVERIFIED = "unverified"


def located(sweep: Sweep) -> ServerProcesses:
    """The processes of the sweep's server, or the reason why they are not to be found."""
    here = endpoint(sweep.server)
    return cpu.server_processes(here.host, here.port, sweep.server_pid)


def cards(sweep: Sweep, guess: bool = True) -> list[tuple[str, str]]:
    """(UUID, slug) of the cards that the server's processes are on; none without a driver, or where they are out of sight. `guess`: also
    those that it can only be on, where the driver's process ids tell nothing."""
    if not (processes := located(sweep).processes):
        return []
    try:
        return [(uuid, machine.card_name(name)) for uuid, name in nvml.cards_of(processes, guess=guess)]
    except UserError:
        return []


def resolve_gpu(sweep: Sweep) -> str:
    """The slug of what the server runs on: as stated, or by `auto` the card that its processes are on, else cpu. Raises UserError where
    they are on another card than stated: the energy of what does the work would be missing."""
    (asked,), found = sweep.gpus, {name for _, name in cards(sweep, guess=sweep.gpus != ["cpu"])}
    if asked == "auto":
        return min(found, default="cpu")
    if found and asked not in found and catalog.gpu(asked).slug not in found:
        what = f"gpu '{asked}' was stated but the server is on {', '.join(sorted(found))}"
        raise UserError(what, "the server's card", "set gpus to auto")
    return asked


def meter(sweep: Sweep, gpu: str) -> tuple[Meter, str]:
    """The meter that sees the server, and why it is that one; one that measures nothing where the server is out of sight."""
    if not (found := located(sweep)).processes:
        return AbsentMeter(endpoint(sweep.server).mark, found.reason), f"energy is not measured: {found.reason}."
    where = "cpu" if gpu == "cpu" else ",".join(uuid for uuid, _ in cards(sweep))
    if not where:
        what = f"the server's processes are on no visible card, but gpu '{gpu}' was stated"
        raise UserError(what, "the server's card", "set gpus to auto")
    chosen, why = power.best_meter(where, sweep.meter, sweep.shared, found.processes)
    protocol, longest = Protocol.of(sweep, chosen), longest_s(sweep.server_timeout_s, max(sweep.output_tokens))
    bound_s = protocol.warmup_cap_s + protocol.window_s + (RAMP_LONGEST + REST_LONGEST) * longest
    return chosen, f"{why} Billed are the server's processes. Each window ends within {bound_s:.0f} s, whatever the server does."


def _shown(model: str) -> str:
    """A model's name at the server without the folder that it may lie in."""
    return PurePath(model).name if model.startswith(("/", "~", ".")) else model


def facts(sweep: Sweep) -> dict:
    """What provenance says of the server: no address, no key."""
    here, model = endpoint(sweep.server), _shown(sweep.server_model or sweep.models[0])
    known = {"name": sweep.server_name, "model": model, "mark": here.mark, "chat": here.chat}
    return known | {"same_machine": cpu.is_this_machine(here.host)}


def scheduled_cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of the trees below `pids` as the scheduler counts them, in ns; 0 where the kernel does not tell (proc(5), schedstat)."""
    total_ns = 0
    for path in (path for pid in families(pids) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended meanwhile
            total_ns += int(path.read_text().split()[0])
    return total_ns / 1e9


def least_cpu_s(model: str, tally: Tally) -> float:
    """CPU seconds that no server on a processor can undercut for the work of a window: two operations a parameter and output token, of a
    model of unknown shapes what it takes to send the pieces of text. A process below it does not do the work."""
    pieces = sum(tally.start_s < m <= tally.stop_s for r in tally.replies for m in r.moments_s)
    try:
        flops = 2 * catalog.model(model).params_total * tally.tokens_out
    except UserError:
        flops = 0.0
    return max(PIECE_CPU_S * pieces, flops / PEAK_FLOP_S)


def token_counter(model: str) -> Callable[[str], int] | None:
    """Counts the tokens of a text by the model's own tokenizer; None where its file is not on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from tokenizers import Tokenizer

    try:
        name, _, revision = model.partition("@")
        folder = Path(models.locate(model))
        file = folder / "tokenizer.json" if folder.is_dir() else try_to_load_from_cache(name, "tokenizer.json", revision=revision or None)
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # the library raises Exception itself for a file that is none
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)


def told_quantization(listed: dict) -> str:
    """The strategy that a server's list says its model is in, "" where it says nothing that is known. llama.cpp's server tells the type of
    its file as `meta.ftype`: "Q4_1", "Q4_K - Medium", "IQ4_XS - 4.25 bpw", "all F32"; what everyone calls Q2_K is "Q2_K - Medium" there."""
    meta = listed.get("meta")
    told = str(meta.get("ftype", "") if isinstance(meta, dict) else "").lower().removeprefix("all ")
    kind, _, mixture = told.partition(" - ")
    suffix = {"small": "_s", "medium": "_m", "large": "_l"}.get(mixture, "") if told != "q2_k - medium" else ""
    slug = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}.get(kind, f"{strategies.GGUF}{kind}{suffix}")
    try:
        return strategies.get(slug).slug
    except UserError:
        return ""


def require(sweep: Sweep, model: str) -> None:
    """Raise UserError where nobody answers at the server's address, or its list of models contradicts the sweep: another name or format."""
    session = Session(endpoint(sweep.server), sweep.server_model or model, sweep.server_timeout_s)
    session.look_up()
    (stated,), told = sweep.quantizations, told_quantization(session.listed)
    if told and told != stated:
        raise UserError(f"quantization '{stated}' was stated but the server says its model is {told}", told, "set quantizations to it")


class System:
    """A server, spoken to once for all windows of a load."""

    def __init__(self, first: Configuration, sweep: Sweep):
        self._sweep, self._model = sweep, sweep.server_model or first.model
        self._traffic: Traffic | None = None

    def refusal(self, c: Configuration) -> Exception | None:
        return None

    def open(self) -> None:
        sweep = self._sweep
        self._found = located(sweep)
        self._count = token_counter(sweep.models[0])
        self._session = Session(endpoint(sweep.server), self._model, sweep.server_timeout_s, sweep.seed, self._count).open()

    def work(self, w: PlannedWindow, clock: Clock) -> "ServedWork":
        """The work of one window: traffic of its own, whose arrivals and prompts are the same whenever this window is measured."""
        self.close()
        c, seed = w.configuration, [self._sweep.seed, w.block, w.order]
        self._traffic = self._session.traffic(load(c.options["load"]), c.input_tokens, c.output_tokens, clock.now_s, seed)
        longest = longest_s(self._sweep.server_timeout_s, c.output_tokens)
        # what the server says of itself, without the folder that its model may lie in
        listed = {k: v for k, v in self._session.listed.items() if k in ("owned_by", "max_model_len", "meta") and v}
        ran = {"model": _shown(self._model), "dialect": self._session.dialect.name, "verified": False} | listed
        return ServedWork(c, self._traffic, clock, json.dumps(ran, sort_keys=True), self._found, longest, self._count)

    def close(self) -> None:
        if self._traffic is not None:
            self._traffic.stop(drain_s=0.0)


class ServedWork:
    """One window of a load on a server, whose processes are `found` or out of sight. `longest_s`: the longest that a reply may take;
    `count`: tokens of a text, where the model's tokenizer is at hand."""

    def __init__(
        self, c: Configuration, traffic: Traffic, clock: Clock, ran: str, found: ServerProcesses, longest_s: float, count: Any = None
    ):
        self._c, self._traffic, self._clock, self._ran, self._found = c, traffic, clock, ran, found
        self._longest_s, self._count = longest_s, count

    def warm_up(self, cap_s: float, power_w: Callable[[], float | None]) -> Warm:
        """Start the load and keep it up until it is steady, or `cap_s` is over, and every slot has answered once. A closed load is steady
        when the mean times of the last five groups of one request a slot vary by at most 2 %; an open one when it has lasted twice its
        median latency."""
        begin_s = self._clock.now_s()
        self._traffic.start()
        self._keep_up(lambda: self._is_ramped(begin_s), RAMP_LONGEST * self._longest_s)
        readings: list[tuple[float, float]] = []

        def settled() -> bool:
            if (watts := power_w()) is not None:
                readings.append((self._clock.now_s(), watts))
            verdict = self._steadiness()
            return verdict.steady and (not readings or power_settled(*zip(*readings[-100:], strict=True)))

        done = False
        while not done and self._clock.now_s() - begin_s < cap_s:
            done = settled()
            self._keep_up(self._pause(10 * POLL_S))
        steps = [r.step_time_s for r in self._traffic.replies if r.step_time_s]
        step_time_s = statistics.median(steps) if steps else None
        return Warm(self._clock.now_s() - begin_s, self._steadiness().cv, done or settled(), None, step_time_s, keeps_running=True)

    def _steadiness(self) -> Steadiness:
        if (concurrency := self._traffic.load.concurrency) is None:
            return Steadiness(True, None)
        return steadiness([r.latency_s for r in self._traffic.replies if r.ok], group_steps=concurrency)

    def _is_ramped(self, begin_s: float) -> bool:
        ended = [r for r in self._traffic.replies if r.ok]
        if concurrency := self._traffic.load.concurrency:
            return len(ended) >= concurrency
        return bool(ended) and self._clock.now_s() - begin_s >= RAMP_LATENCIES * statistics.median(r.latency_s for r in ended)

    def _pause(self, duration_s: float) -> Callable[[], bool]:
        until_s = self._clock.now_s() + duration_s
        return lambda: self._clock.now_s() >= until_s

    def _keep_up(self, over: Callable[[], bool], within_s: float = math.inf) -> None:
        """Wait, loaded, until `over()`. Raises WindowFault where the traffic has ended by itself, or that takes longer than `within_s`."""
        until_s = self._clock.now_s() + within_s
        traffic = self._traffic
        while not over():
            if traffic.fault or not traffic.is_running:
                fault = WindowFault(traffic.fault or "the traffic ended by itself", traffic.fault_status)
            elif self._clock.now_s() > until_s:
                good = sum(r.ok for r in traffic.replies)
                fault = WindowFault(
                    f"{good} of {len(traffic.replies)} requests succeeded in {within_s:.3g} s, and not one a slot", "timeout"
                )
            else:
                self._clock.sleep(POLL_S)
                continue
            traffic.stop(drain_s=0.0)
            raise fault

    def run_for(self, duration_s: float) -> None:
        """Let the load go on for `whole_cycles_s(duration_s)`, and until one request has been completed. The times of a tick of the process
        table are too coarse for a light server, so that its scheduler's nanoseconds are read beside."""
        before, client_s, server_s = len(self._traffic.replies), time.process_time(), trees_cpu_s(self._found.processes)
        scheduled_s = scheduled_cpu_s(self._found.processes)
        self._start_s = self._clock.now_s()
        self._keep_up(self._pause(self.whole_cycles_s(duration_s)))
        self._keep_up(lambda: len(self._traffic.replies) > before, self._longest_s)
        self._stop_s = self._clock.now_s()
        self._server_s, self._client_s = trees_cpu_s(self._found.processes) - server_s, time.process_time() - client_s
        self._seen_s = max(self._server_s, scheduled_cpu_s(self._found.processes) - scheduled_s)

    def whole_cycles_s(self, duration_s: float) -> float:
        """`duration_s` [s], but at least twice the median latency so far; of a closed load a whole multiple of it. Requests of equal length
        that started together stay together, and a window that cut their cycle would hold more of prefill than of decode, or less. Its end
        is set before it begins: after a reply tokens have just been paid for."""
        latencies_s = [r.latency_s for r in self._traffic.replies if r.ok]
        if not latencies_s:
            return duration_s
        cycle_s = statistics.median(latencies_s)
        least_s = max(duration_s, CYCLES * cycle_s)
        return least_s if self._traffic.load.concurrency is None else math.ceil(least_s / cycle_s) * cycle_s

    def columns(self) -> dict:
        self._traffic.stop(drain_s=self._longest_s)
        traffic = self._traffic
        tally = self._tally = Tally(traffic.replies, self._start_s, self._stop_s, traffic.load, traffic.beats, self._count)
        flags = [UNVERIFIED, *tally.flags(self._c.input_tokens, self._c.output_tokens)]
        seen = {"cpu_time_s": self._server_s} if self._found.processes else {}
        told = {"client_cpu_s": self._client_s, "ran": self._ran, "flags": flags}
        return tally.columns() | seen | told | (tally.verdict() or self._unbelievable())

    def _unbelievable(self) -> dict:
        if not self._found.processes:
            return {"status": "invalid", "reason": f"energy is not measured: {self._found.reason}"}
        least_s = least_cpu_s(self._c.model, self._tally)
        if self._c.gpu != "cpu" or self._seen_s >= least_s:
            return {}
        used = f"{self._seen_s * 1e3:.3g} ms of CPU time for {self._tally.tokens_out:.0f} tokens"
        why = f"the server's processes used {used}, which take {least_s * 1e3:.3g} ms at least: something else computes"
        return {"status": "invalid", "reason": f"{why}; name it with server_pid"}

    def scores(self) -> list[dict]:
        return []
