"""Code, ``.env.example`` and the reference pages say the same: what differs from them is found here, not by a user."""

from __future__ import annotations
