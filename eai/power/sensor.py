"""What is known about a card's power sensor: published priors, replaced by what was probed on the card itself.

A probe is kept per (UUID, driver, VBIOS) in the user's cache: a new driver may bring a new sensor, so it asks for a new probe.
"""

import json
import re
from dataclasses import asdict, dataclass, replace

from eai import paths

TICK_S = 0.100
ARCHITECTURES = {"Pascal": 4, "Volta": 5, "Turing": 6, "Ampere": 7, "Ada Lovelace": 8, "Hopper": 9, "Blackwell": 10}
"""NVML's numbers of the catalog's architectures."""

GAIN_REL = 0.05
OFFSET_W = 8.3
"""Standard uncertainty of a sensor's offset [W]: the one with which the ratio of a 120 W to a 250 W load is off by 3.6 % rms,
as cards of arXiv:2312.02741 are: 0.036 / (1/120 - 1/250). Their gains scatter by 4.7 % rms around the truth, taken as 5 %."""


@dataclass(frozen=True)
class Sensor:
    """Behaviour of one power field and of the energy counter of a card; `source`: published | probed | unknown. update_s: how often the
    field changes; averaging_s: what span a value averages; tick_s: how often the counter advances; full_rate: whether the counter was
    proven to see every instant (None: nobody looked)."""

    field: str
    update_s: float = 0.100
    averaging_s: float = 0.100
    tick_s: float = TICK_S
    full_rate: bool | None = None
    gain_ratio: float = 1.0
    u_gain_ratio: float = 0.05
    gain_rel: float = GAIN_REL
    offset_w: float = OFFSET_W
    scale: float = 1.0
    shift_w: float = 0.0
    source: str = "unknown"

    def reading(self) -> dict:
        """The part of a DeviceSpec that the sensor decides."""
        return {k: v for k, v in asdict(self).items() if k not in ("field", "source")}

    def doubts(self) -> list[str]:
        """What is not known of this sensor and what that does to the numbers."""
        notes = []
        if self.source == "unknown":
            notes.append(f"{self.field} is in no published table: update {self.update_s * 1e3:g} ms is an assumption until it is probed")
        if self.averaging_s < 0.95 * self.update_s:
            share = self.averaging_s / self.update_s
            notes.append(f"{self.field} sees {share:.0%} of the time: steps near a multiple of {self.update_s * 1e3:g} ms alias")
        if self.full_rate is None:
            notes.append("whether the energy counter sees all of the time has not been probed")
        elif not self.full_rate:
            notes.append("the energy counter is fed by the same sampling sensor: agreement of the two proves nothing")
        return notes

    def to_dict(self) -> dict:
        return asdict(self)


def prior(name: str, architecture: int, driver: str, field: str | None) -> Sensor:
    """The published behaviour of a field on a card of this product name, NVML architecture number and driver. The first row that fits
    counts: particular dies and drivers stand before their family. Unknown cards get a marked guess."""
    from eai import tables

    field = field or "power_instant_w"
    for entry in tables.read_catalog("sensors").astype(object).fillna("").to_dict("records"):
        fits = entry["field"] == field and int(entry["architecture"]) == architecture and re.search(entry["die_pattern"], name)
        if fits and (not entry["driver"] or driver.split(".")[0] == str(entry["driver"]).split(".")[0]):
            return Sensor(field, float(entry["update_ms"]) / 1e3, float(entry["averaging_ms"]) / 1e3, source="published")
    return Sensor(field)


def _stored(uuid: str) -> dict:
    try:
        return json.loads((paths.cache() / "sensors" / f"{uuid}.json").read_text())
    except (OSError, ValueError):
        return {}


def knowledge(uuid: str, name: str, architecture: int, driver: str, vbios: str, field: str | None) -> Sensor:
    """The best knowledge of a card's sensor: probed under this very driver and VBIOS, else published, else a marked guess."""
    known = prior(name, architecture, driver, field)
    probed = _stored(uuid).get(f"{driver} | {vbios} | {known.field}")
    return replace(known, **probed) if isinstance(probed, dict) else known


def remember(uuid: str, driver: str, vbios: str, sensor: Sensor) -> bool:
    """Keep what was probed for the next run; False where the cache cannot be written, which costs only the next probe."""
    entries = _stored(uuid) | {f"{driver} | {vbios} | {sensor.field}": sensor.to_dict()}
    path = paths.cache() / "sensors" / f"{uuid}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(entries, indent=1))
        temporary.replace(path)
    except OSError:
        return False
    return True
