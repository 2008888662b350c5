"""Validation of an uploaded model: uploaded → validating → valid, or invalid with the reason."""

from __future__ import annotations

import hashlib
from typing import Any

from worker.models.probe import judge_in_child
from worker.models.registry import ModelRegistry, facts_fields
from worker.models.validation import ModelRefused

LONGEST_REASON = 500


def validate(registry: ModelRegistry, model_id: int) -> dict[str, Any]:
    """Judge a model's text in a child and record the verdict; returns the document. May be repeated at any time.

    Raises ModelMissing or StoreError.
    """
    raw = registry.raw(model_id)
    document = registry.get(model_id)
    sha256 = hashlib.sha256(raw).hexdigest()
    if document.get("sha256") != sha256:
        verdict: dict[str, Any] = {"status": "invalid", "reason": "sha256: is not that of the text"}
        registry.record(model_id, str(document.get("sha256")), verdict)
        return registry.get(model_id)
    registry.record(model_id, sha256, {"status": "validating", "reason": None})
    try:
        verdict = facts_fields(judge_in_child(raw)) | {"status": "valid"}
    except ModelRefused as refused:
        verdict = {"status": "invalid", "reason": str(refused)[:LONGEST_REASON]}
    registry.record(model_id, sha256, verdict)
    return registry.get(model_id)
