"""The states of an order, and every arrow between them.

INTENT → SUBMITTED → ACCEPTED → PARTIALLY_FILLED → FILLED           NOT_SENT (never left this process)
                         ↘ PENDING_CANCEL → CANCELED                REJECTED · EXPIRED · REPLACED
any → UNKNOWN → (resolved by query) any, or ABSENT
"""

from __future__ import annotations

from worker.core.types import OrderState

S = OrderState

FINAL = frozenset({S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED, S.REPLACED, S.NOT_SENT})
"""States in which nothing works at the venue any more. UNKNOWN and ABSENT are not final: they may still surprise."""

AT_VENUE = frozenset(
    {
        S.SUBMITTED,
        S.ACCEPTED,
        S.PARTIALLY_FILLED,
        S.FILLED,
        S.PENDING_CANCEL,
        S.CANCELED,
        S.REJECTED,
        S.EXPIRED,
        S.REPLACED,
    }
)
"""States that a venue may tell; the others are our own knowledge, or lack of it."""

TRANSITIONS: dict[OrderState, frozenset[OrderState]] = {
    S.INTENT: AT_VENUE | {S.NOT_SENT, S.UNKNOWN},
    S.SUBMITTED: (AT_VENUE - {S.SUBMITTED}) | {S.UNKNOWN},
    S.ACCEPTED: (AT_VENUE - {S.SUBMITTED, S.ACCEPTED}) | {S.UNKNOWN},
    S.PARTIALLY_FILLED: frozenset(
        {S.FILLED, S.PENDING_CANCEL, S.CANCELED, S.EXPIRED, S.REPLACED, S.REJECTED, S.UNKNOWN}
    ),
    S.PENDING_CANCEL: frozenset(
        {S.ACCEPTED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REPLACED, S.REJECTED, S.UNKNOWN}
    ),
    S.UNKNOWN: AT_VENUE | {S.NOT_SENT, S.ABSENT},
    S.ABSENT: AT_VENUE | {S.NOT_SENT},
    S.NOT_SENT: AT_VENUE,
    S.CANCELED: frozenset({S.FILLED}),
    S.EXPIRED: frozenset({S.FILLED}),
    S.REPLACED: frozenset({S.FILLED}),
    S.REJECTED: frozenset({S.PARTIALLY_FILLED, S.FILLED}),
    S.FILLED: frozenset(),
}
"""Every arrow there is. What is absent is illegal: an act of ours raises, a late observer is dropped and recorded."""

STANDING = frozenset({S.ACCEPTED, S.PARTIALLY_FILLED, S.PENDING_CANCEL})
"""States in which an order surely works at the venue."""

STATUS = {
    S.INTENT: "submitted",
    S.SUBMITTED: "submitted",
    S.ACCEPTED: "submitted",
    S.PENDING_CANCEL: "submitted",
    S.PARTIALLY_FILLED: "partially_filled",
    S.FILLED: "filled",
    S.CANCELED: "canceled",
    S.REPLACED: "canceled",
    S.REJECTED: "rejected",
    S.EXPIRED: "expired",
    S.NOT_SENT: "failed",
    S.UNKNOWN: "unknown",
    S.ABSENT: "unknown",
}
"""``trades_log`` status by order state."""
