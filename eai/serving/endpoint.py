"""Where a server is: its address taken apart once, and the key it wants, which is written nowhere."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from eai.servers import KEY_VARIABLE, SCHEMES, address

CHAT, PLAIN = "/chat/completions", "/completions"


@dataclass(frozen=True)
class Endpoint:
    """One OpenAI-compatible server: `base` ends in its version (`.../v1`); `chat` says which of the two kinds of completion is asked."""

    base: str
    host: str
    port: int
    chat: bool = True
    key: str = field(default="", repr=False)

    @property
    def completions(self) -> str:
        """The address that requests go to."""
        return self.base + (CHAT if self.chat else PLAIN)

    @property
    def models(self) -> str:
        """The address that lists the models."""
        return self.base + "/models"

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request; the key only if there is one."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @property
    def mark(self) -> str:
        """8 hex digits that tell this server from another without naming it."""
        return hashlib.sha256(f"{self.host}:{self.port}".encode()).hexdigest()[:8]


def endpoint(server: str, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The endpoint at an address such as http://127.0.0.1:8000, with the key of the environment variable EAI_API_KEY.

    Without a path, /v1 is meant. An address that ends in /chat/completions or /completions says which is asked; chat is the default.
    Raises UserError for what is no such address, and for one with a name or password in it: addresses are written down.
    """
    parts = address(server)
    path = parts.path.rstrip("/")
    chat = path.endswith(CHAT) or not path.endswith(PLAIN)
    path = path.removesuffix(CHAT).removesuffix(PLAIN) or "/v1"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or SCHEMES[parts.scheme]
    return Endpoint(f"{parts.scheme}://{host}:{port}{path}", parts.hostname, port, chat, environ.get(KEY_VARIABLE, ""))
