"""Answers with an ETag, so that a poll that changed nothing costs a 304."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from typing import Any

from flask import Response, request

from shared.documents import dump_json
from web.errors import ApiError

_NUMBER = re.compile(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

_CONDITIONS = frozenset({"HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"})


def tagged(body: bytes, etag: str | None = None, mimetype: str = "application/json") -> Response:
    """Bytes with their ETag; 304 where the caller has them."""
    response = Response(body, mimetype=mimetype)
    response.set_etag(etag or hashlib.sha256(body).hexdigest()[:32])
    response.headers["Cache-Control"] = "no-cache"
    if not _CONDITIONS.isdisjoint(request.environ):
        response.make_conditional(request)  # in place
    return response


def tagged_json(value: Any) -> Response:
    """The same of a value."""
    return tagged(dump_json(value))


def tagged_rows(name: str, rows: Sequence[object], **more: object) -> Response:
    """A list under its name, with what else there is to say; with ``?format=csv`` the rows alone, for a spreadsheet."""
    wanted = request.args.get("format", "json")
    if wanted == "json":
        return tagged_json({name: rows, **more})
    if wanted != "csv":
        raise ApiError(400, "bad_parameter", f"format must be json or csv, not {wanted[:40]!r}", "format")
    response = tagged(_csv([row for row in rows if isinstance(row, dict)]), mimetype="text/csv")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return response


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    fields = list(dict.fromkeys(str(field) for row in rows for field in row))
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_cell(field) for field in fields])
    writer.writerows([_cell(row.get(field)) for field in fields] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    """What a spreadsheet would take for a formula is text to it: keys are written by anybody."""
    if value is None:
        return ""
    shown = value if isinstance(value, str) else dump_json(value).decode()
    return f"'{shown}" if shown.startswith(_FORMULA) and not _NUMBER.fullmatch(shown) else shown
