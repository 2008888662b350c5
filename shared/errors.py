"""The one error tree, named by what the caller must do.

SixbotError
├── ConfigError            a human corrects a value and starts again
├── DocumentError          deny: a document cannot be read (field, value)
├── StoreError
│   ├── StoreUnreachable   stop and retry: Redis did not answer; a write may or may not have happened
│   └── StoreRefused       deny: Redis answered with an error (full, read-only, wrong type, no permission)
├── VenueError
│   ├── VenueRejected      final: a structured refusal on the adapter's allow-list; the order does not exist
│   ├── VenueAmbiguous     the order may exist: never send again, resolve it by client order id
│   ├── NotSent            certain that no byte of the request left this process
│   ├── OrderNotFound      the venue answered clearly that it knows no such order
│   └── VenueUnavailable   a read failed: what is at the venue is not known, so deny
│       └── VenueBusy      and the venue asks not to be asked again before some seconds have passed
├── IllegalTransition      a bug of ours: the order table has no such arrow
├── LeaseLost              exit and recover: another trader may hold the account
├── PredictionError        no trade: the predictor has no usable answer
└── ReportError
    ├── ReportRefused      final: the receiver will never take this report
    ├── ReportDelayed      try again, not before the seconds that the receiver asked for
    └── ReportFailed       try again later: whether it arrived is not known
"""


class SixbotError(Exception):
    """Root of every error that sixbot raises on purpose."""


class ConfigError(SixbotError):
    """A configured value is missing or wrong; the message names it, the problem and the remedy."""


class DocumentError(SixbotError):
    """A document is unreadable: trading is OFF. Names the field (or ``document``) and shows the value, shortened."""

    def __init__(self, field: str, problem: str, *value: object) -> None:
        self.field, self.problem = field, problem
        shown = f" (got {shorten(value[0])})" if value else ""
        super().__init__(f"{field}: {problem}{shown}")


class StoreError(SixbotError):
    """Redis could not do what was asked."""


class StoreUnreachable(StoreError):
    """Redis did not answer in time. For a write, whether it happened is unknown."""


class StoreRefused(StoreError):
    """Redis answered with an error: nothing was written."""


class VenueError(SixbotError):
    """A venue did not do what was asked."""


class VenueRejected(VenueError):
    """The venue refused the order for good, in a structured answer on the adapter's allow-list."""

    def __init__(self, message: str, code: str = "") -> None:
        self.code = code
        super().__init__(f"{message} (code {code})" if code else message)


class VenueAmbiguous(VenueError):
    """The venue's answer does not say whether the order exists: UNKNOWN until resolved by query."""


class NotSent(VenueError):
    """The request was dropped before its first byte was written."""


class OrderNotFound(VenueError):
    """The venue answered, in its own structured way, that it does not know this order."""


class VenueUnavailable(VenueError):
    """A read at the venue failed or made no sense; its state is not known."""


class VenueBusy(VenueUnavailable):
    """The venue takes no more requests for now. Who must be heard, as a stop must, asks all the same."""

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


class IllegalTransition(SixbotError):
    """An act of ours asked for an order transition that the table does not have."""


class LeaseLost(SixbotError):
    """The account's lease is no longer ours; this process must stop sending."""


class PredictionError(SixbotError):
    """A predictor has no usable answer."""


class ReportError(SixbotError):
    """A reporter did not deliver. Messages hold no secret: they are kept in Redis."""


class ReportRefused(ReportError):
    """The receiver will never take this report."""


class ReportDelayed(ReportError):
    """The receiver asks for patience."""

    def __init__(self, message: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(message)


class ReportFailed(ReportError):
    """No answer, or one that promises a better day."""


def shorten(value: object, limit: int = 80) -> str:
    """``repr`` of a value for a message, cut at ``limit`` characters."""
    if isinstance(value, str | bytes) and len(value) > limit:
        value = value[:limit]
        return f"{value!r}…"
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"<{type(value).__name__} too large to show>"
    return text if len(text) <= limit else f"{text[:limit]}…"
