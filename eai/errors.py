"""The one error a user is meant to read: one line, what was found, what was expected, what to do."""


class UserError(Exception):
    """Raised for bad input or a missing precondition; the command line prints it on stderr and exits 2. The message is one line and says
    what was found, what was expected and what to do next."""

    def __init__(self, found: str, expected: str = "", do: str = ""):
        parts = [found.strip().rstrip(".")]
        if expected:
            parts.append(f"expected {expected.strip().rstrip('.')}")
        if do:
            parts.append(do.strip().rstrip("."))
        super().__init__(" ".join("; ".join(parts).split()) + ".")


class WindowFault(Exception):
    """What a window was measured on failed while it was measured; `status` is the row's, the message its reason on one line."""

    def __init__(self, reason: str, status: str = "failed"):
        super().__init__(reason)
        self.status = status
