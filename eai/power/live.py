"""The energy of any command (`eai measure`), and the power of this machine as it goes (`eai watch`)."""

import contextlib
import csv
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from eai.errors import UserError
from eai.inputs import documents
from eai.power.cpu import WATTS_PER_THREAD, RaplMeter
from eai.power.meter import JointMeter, Meter
from eai.power.nvml import NvmlMeter
from eai.power.window import Window, best_meter, window
from eai.quantity import plain

NOT_FOUND, NOT_ALLOWED = 127, 126
"""Exit codes of a shell for a command that does not exist, or may not be run."""


def measure_command(command: list[str], meter: Meter | None = None, quiet: bool = False, step_s: float | None = None) -> tuple[Window, int]:
    """(the window around a command, its exit code); `quiet` sends what it prints on stdout to stderr. Other processes on the GPUs are
    accepted and flagged. Signals go to the command (an interrupt from the terminal has reached it already); what was used until then is
    measured."""
    if not command:
        raise UserError("no command", "one after --", "eai measure -- vllm bench serve ...")
    meter, before, why = meter or best_meter(shared=True)[0], {}, ""
    with window(meter, step_time_s=step_s, name=Path(command[0]).name) as w:
        try:
            process = subprocess.Popen(command, stdout=sys.stderr if quiet else None)
            with contextlib.suppress(ValueError):  # handlers can be set in the main thread alone
                before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
                before[signal.SIGTERM] = signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
            code = process.wait()
        except OSError as error:
            code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_ALLOWED
            why = f"{command[0]} is not found" if code == NOT_FOUND else f"{command[0]}: {error.strerror}"
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if why:
        w.status, w.reason, w.energies = "failed", why, []
        print(f"eai: {why}.", file=sys.stderr)
    return w, 128 - code if code < 0 else code


def tokens_of(path: Path, since_s: float = 0.0) -> int:
    """Output tokens by the result file of vllm bench serve, guidellm, aiperf or llama-bench. Raises UserError for another, or an older
    one."""
    try:
        text, changed_s = path.read_text(encoding="utf-8"), path.stat().st_mtime
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "the result file of the command", "check --result") from None
    if changed_s < since_s - 1:
        raise UserError(f"{path} is older than the command", "the result of this run", "check --result, or give --tokens")
    try:
        results = documents(text, path)
    except UserError:
        raise UserError(f"{path} is no JSON", "a result file", "give --tokens") from None
    results = results[0] if len(results) == 1 and isinstance(results[0], list) else results
    try:
        count = sum(n for one in results if isinstance(one, dict) and (n := _tokens(one)) is not None)
    except (AttributeError, KeyError, TypeError):  # a key of theirs with something else in it
        count = 0
    if not 0 < count < math.inf:
        expected = "total_output_tokens or what guidellm, aiperf and llama-bench write"
        raise UserError(f"{path} tells no output tokens", expected, "give --tokens")
    return round(count)


def _tokens(one: dict) -> float | None:
    """Output tokens of one result, None where it does not say."""
    if isinstance(count := one.get("total_output_tokens"), int | float):  # vllm bench serve, sglang.bench_serving
        return count
    if isinstance(one.get("benchmarks"), list):  # guidellm
        good = [b.get("metrics", {}).get("output_token_count", {}).get("successful", {}) for b in one["benchmarks"]]
        each = [g.get("total_sum", g["mean"] * g["count"] if {"mean", "count"} <= g.keys() else None) for g in good]
        return None if None in each else sum(each)
    if "n_gen" in one:  # llama-bench: tokens generated in each repetition; 0 for a prompt alone
        return one["n_gen"] * len(one.get("samples_ns") or [0])
    tokens, requests = one.get("output_sequence_length"), one.get("request_count")  # aiperf: mean x requests
    return tokens["avg"] * requests["avg"] if isinstance(tokens, dict) and isinstance(requests, dict) else None


def window_answer(w: Window, code: int, command: list[str]) -> dict:
    """A measured command as a JSON-able dict: energies as quantities, per token where `w.tokens` is known."""
    found = {boundary: q for boundary in ("gpu", "cpu_package", "dram") if (q := w.total(boundary)) is not None}
    each = {b: q / w.tokens for b, q in found.items()} if w.tokens else {}
    said = {name: getattr(w, name) for name in ("duration_s", "status", "reason", "flags", "meter", "basis", "boundary", "tokens")}
    answer = {"command": command, "exit_code": code} | said | {"energies_j": found, "energies_per_token_j": each}
    return answer | {"power_mean_w": w.context.get("power_mean_w")}


@dataclass
class Gauge:
    """One device as it goes: watts now, joules so far, and the range of its power. `estimated`: CPU time x watts."""

    key: str
    name: str
    boundary: str
    uuid: str = ""
    estimated: bool = False
    power_w: float | None = None
    energy_j: float = 0.0
    low_w: float = math.inf
    high_w: float = 0.0
    _last: tuple[float, float] | None = field(default=None, repr=False)

    def to_dict(self) -> dict:
        """What was shown last, and the energy."""
        low_w, high_w = (self.low_w, self.high_w) if self.high_w >= self.low_w else (None, None)
        said = {"device": self.key, "name": self.name, "boundary": self.boundary, "basis": "estimated" if self.estimated else "measured"}
        return said | {"power_w": self.power_w, "lowest_w": low_w, "highest_w": high_w, "energy_j": self.energy_j}

    def __str__(self) -> str:
        return f"{self.key}: {self.energy_j:,.0f} J = {plain(self.energy_j / 3600)} Wh{' (estimated)' if self.estimated else ''}"

    def take(self, t_s: float, power_w: float | None = None, counter_j: float | None = None) -> None:
        """One more reading: of power [W], integrated by the trapezoid, or of a counter [J], whose difference is the mean power since."""
        value = power_w if counter_j is None else counter_j
        if value is None:
            self.power_w, self._last = None, None
            return
        if self._last is not None and t_s > self._last[0]:
            span_s = t_s - self._last[0]
            used_j = (value + self._last[1]) / 2 * span_s if counter_j is None else value - self._last[1]
            if used_j >= 0:  # a counter that wrapped or was reset says nothing of this span
                self.energy_j += used_j
                power_w = power_w if counter_j is None else used_j / span_s
        self._last, self.power_w = (t_s, value), power_w
        if power_w is not None:
            self.low_w, self.high_w = min(self.low_w, power_w), max(self.high_w, power_w)


def gauges_of(meter: Meter) -> list[tuple[Gauge, Callable[[], dict]]]:
    """The devices of a meter with what reads each; CPU time of all processes x watts where nothing can be read."""

    def busy() -> dict:
        times = psutil.cpu_times()
        return {"counter_j": WATTS_PER_THREAD * (sum(times[:8]) - (times.idle + getattr(times, "iowait", 0.0)))}

    found = []
    for part in meter.meters if isinstance(meter, JointMeter) else (meter,):
        if isinstance(part, NvmlMeter):
            for index, card in enumerate(part.cards):
                gauge = Gauge(f"gpu{index}", card.name, "gpu", card.uuid)
                found.append((gauge, lambda c=card: {"power_w": next((r[4] for r in c.power() if r[3] == c.power_field), None)}))
        elif isinstance(part, RaplMeter):
            for domain in part.domains:
                found.append((Gauge(domain.device_id, domain.device_id, domain.boundary), lambda d=domain: {"counter_j": d.read_j()}))
        else:
            found.append((Gauge("cpu", f"all processes, {WATTS_PER_THREAD:g} W a busy thread", "cpu_package", estimated=True), busy))
    return found


def watch(
    meter: Meter,
    interval_s: float = 1.0,
    duration_s: float | None = None,
    csv_path: Path | None = None,
    show: Callable[[list[Gauge]], None] | None = None,
) -> list[Gauge]:
    """The gauges after `duration_s` seconds, or when interrupted; `show` gets them at each reading, and `csv_path` the lines of a log that
    `eai trace` reads: cards by line, other devices in columns of their own; a counter's power is the mean since the reading before, and its
    column says so. Raises UserError for an interval under 0.05 s, and for a file that exists already."""
    if not 0.05 <= interval_s <= 60:
        raise UserError(f"--interval {interval_s:g}", "0.05 to 60 seconds", "sensors update every 20 to 100 ms")
    if duration_s is not None and not duration_s >= 0:
        raise UserError(f"--duration {duration_s:g}", "seconds, 0 or more", "leave it out to watch until Ctrl-C")
    pairs = gauges_of(meter)
    gauges = [g for g, _ in pairs]
    cards, rest = ([g for g in gauges if (g.boundary == "gpu") == wanted] for wanted in (True, False))

    def lines(epoch_s: float) -> list[list[str]]:
        watts = {g.key: "" if g.power_w is None else f"{g.power_w:.3f}" for g in gauges}
        others = [watts[g.key] for g in rest]
        by_card = [[str(i), g.uuid, g.name, watts[g.key]] for i, g in enumerate(cards)] or [[]]
        return [[f"{epoch_s:.3f}", *line, *others] for line in by_card if any(line[-1:] + others)]

    with contextlib.ExitStack() as stack:
        log = None
        if csv_path is not None:
            try:
                log = csv.writer(stack.enter_context(open(csv_path, "x", newline="", encoding="utf-8")))
            except FileExistsError:
                raise UserError(f"{csv_path} exists", "a new file", "name another, so that nothing is lost") from None
            except OSError as error:
                raise UserError(f"{csv_path}: {error.strerror}", "a file that can be written") from None
            names = [f"{g.key.replace('-', '_')}_power_interval_mean_w" for g in rest]
            log.writerow(["timestamp", *(["index", "uuid", "name", "power.draw [W]"] if cards else []), *names])
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        epoch_s, begin_s, beat = time.time(), meter.clock.now_s(), 0
        while True:
            now_s = meter.clock.now_s()
            for gauge, read in pairs:
                try:
                    gauge.take(now_s, **read())
                except OSError:
                    gauge.take(now_s)
            if log is not None:
                log.writerows(lines(epoch_s + now_s - begin_s))
            if show is not None:
                show(gauges)
            beat += 1
            if duration_s is not None and beat * interval_s > duration_s + interval_s / 2:
                break
            meter.clock.sleep(begin_s + beat * interval_s - meter.clock.now_s())
    return gauges


def table_of(gauges: list[Gauge], seconds: float):
    """The gauges as a table of rich."""
    from rich.table import Table

    table = Table(title=f"power, {seconds:.0f} s")
    for name in ("device", "W", "lowest", "highest", "J so far", "Wh"):
        table.add_column(name, justify="left" if name == "device" else "right")
    for g in gauges:
        watts = ("-" if v is None or v == math.inf else f"{v:,.1f}" for v in (g.power_w, g.low_w, g.high_w))
        label = f"{g.key}  {g.name}" + ("  (estimated)" if g.estimated else "")
        table.add_row(label, *watts, f"{g.energy_j:,.0f}", plain(g.energy_j / 3600))
    return table
