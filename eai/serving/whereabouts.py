"""Where a server runs: its processes, the cards they are on, and the meter that sees them, or the reason why none does."""

from pathlib import PurePath

from eai import catalog, lease, power
from eai.errors import UserError
from eai.power import estimate, nvml
from eai.power.meter import AbsentMeter, Meter
from eai.serving.endpoint import endpoint
from eai.settings import Sweep


def find(sweep: Sweep) -> estimate.ServerProcesses:
    """The processes of the sweep's server, or the reason why they are not to be found."""
    here = endpoint(sweep.server)
    return estimate.server_processes(here.host, here.port, sweep.server_pid)


def cards(sweep: Sweep, guess: bool = True) -> list[tuple[str, str]]:
    """(UUID, slug) of the cards that the server's processes are on; none without a driver, or where they are out of sight.

    `guess`: also those that it can only be on, where the driver's process ids tell nothing.
    """
    if not (processes := find(sweep).processes):
        return []
    try:
        return [(uuid, lease.card_name(name)) for uuid, name in nvml.cards_of(processes, guess=guess)]
    except UserError:
        return []


def resolve_gpu(sweep: Sweep) -> str:
    """The slug of what the server runs on: as stated, or by `auto` the card that its processes are on, else cpu.

    Raises UserError where they are on another card than stated: the energy of what does the work would be missing.
    """
    (asked,), found = sweep.gpus, {name for _, name in cards(sweep, guess=sweep.gpus != ["cpu"])}
    if asked == "auto":
        return min(found, default="cpu")
    if found and asked not in found and catalog.gpu(asked).slug not in found:
        raise UserError(
            f"gpu '{asked}' was stated but the server is on {', '.join(sorted(found))}", "the server's card", "set gpus to auto"
        )
    return asked


def meter(sweep: Sweep, gpu: str) -> tuple[Meter, str]:
    """The meter that sees the server, and why it is that one; one that measures nothing where the server is out of sight."""
    found = find(sweep)
    if not found.processes:
        return AbsentMeter(endpoint(sweep.server).mark, found.reason), f"energy is not measured: {found.reason}."
    where = "cpu" if gpu == "cpu" else ",".join(uuid for uuid, _ in cards(sweep))
    if not where:
        raise UserError(
            f"the server's processes are on no visible card, but gpu '{gpu}' was stated", "the server's card", "set gpus to auto"
        )
    chosen, why = power.best_meter(where, sweep.meter, sweep.shared, found.processes)
    return chosen, f"{why} Billed are the server's processes."


def facts(sweep: Sweep) -> dict:
    """What provenance says of the server: no address, no key."""
    here = endpoint(sweep.server)
    model = shown(sweep.server_model or sweep.models[0])
    return {
        "name": sweep.server_name,
        "model": model,
        "mark": here.mark,
        "chat": here.chat,
        "same_machine": estimate.is_this_machine(here.host),
    }


def shown(model: str) -> str:
    """A model's name at the server without the folder that it may lie in."""
    return PurePath(model).name if model.startswith(("/", "~", ".")) else model
