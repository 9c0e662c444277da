"""One measurement at a time on a device: leases by UUID, held by a lock that the kernel drops when the process dies.

A crash cannot leak a lease, and an orphan that still computes keeps its own. Schedulers count devices and do not name them, so a job takes
whichever matching card is free; what was chosen already (CUDA_VISIBLE_DEVICES) is respected. A job that has begun on a card takes that
card again, because another card is another experiment.
"""

import fcntl
import math
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from eai import catalog
from eai.errors import UserError
from eai.jobs import slug
from eai.power import simulated
from eai.power.simulated import is_simulated

POLL_S = 0.2


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
    spec = find_spec("torch")
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


def holder(card: Card) -> str:
    """The process id that took the card last, as it wrote it; empty if nobody ever did."""
    try:
        return card.lock.read_text().strip()
    except OSError:
        return ""


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
        held = f"{', '.join(c.uuid for c in possible)}: another measurement (process {holder(possible[0])}) runs there"
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
