"""What one request produced, with the times at which it came."""

import itertools
from dataclasses import dataclass

REFUSED, TIMEOUT, BROKEN, HTTP = "refused", "timeout", "broken", "http"


@dataclass(frozen=True)
class Reply:
    """One request from the moment it was due to the end of its reply, on the clock of the measurement [s].

    `moments_s`: when each piece of text arrived. `tokens_in`, `tokens_out`: as the server's usage tells; where it tells nothing `tokens_in`
    is None, and `tokens_out` is the number of pieces with `by_usage` False. `tokens_cached`: prompt tokens that it had from an earlier
    request. `failure`: "" or one of refused, timeout, broken, http; `reason`: why, on one line; `http_status`: the answer's, 0 without one.
    `retries`: how often it was turned away before.
    """

    due_s: float
    sent_s: float
    ended_s: float
    moments_s: tuple[float, ...] = ()
    tokens_in: int | None = None
    tokens_out: int = 0
    by_usage: bool = False
    tokens_cached: int = 0
    failure: str = ""
    reason: str = ""
    http_status: int = 0
    retries: int = 0

    @property
    def ok(self) -> bool:
        """Whether the whole reply arrived."""
        return not self.failure

    @property
    def ttft_s(self) -> float | None:
        """Time from when the request was due to its first text; None if none came."""
        return self.moments_s[0] - self.due_s if self.moments_s else None

    @property
    def latency_s(self) -> float:
        """Time from when the request was due to the end of its reply."""
        return self.ended_s - self.due_s

    @property
    def step_time_s(self) -> float | None:
        """Mean time of one token after the first; None for a reply of one token."""
        if len(self.moments_s) < 2 or self.tokens_out < 2:
            return None
        return (self.moments_s[-1] - self.moments_s[0]) / (self.tokens_out - 1)

    def tokens_between(self, start_s: float, stop_s: float) -> float:
        """Output tokens that arrived after `start_s` and up to `stop_s`: the usage spread evenly over the pieces of text.

        A piece may hold several tokens, and a token may hold no text of its own; without any text they count where the reply ended.
        """
        moments_s = self.moments_s or (self.ended_s,)
        inside = sum(start_s < moment_s <= stop_s for moment_s in moments_s)
        return self.tokens_out * inside / len(moments_s)

    def gaps_between_s(self, start_s: float, stop_s: float) -> list[float]:
        """Times between successive pieces of text, of those that arrived after `start_s` and up to `stop_s`."""
        return [after - before for before, after in itertools.pairwise(self.moments_s) if start_s < after <= stop_s]

    def overlap_s(self, start_s: float, stop_s: float) -> float:
        """How long the request was under way between two instants."""
        return max(min(self.ended_s, stop_s) - max(self.due_s, start_s), 0.0)
