"""Deliveries as RQ jobs: at most one on its way per target, found again by its id after any restart."""

from __future__ import annotations

import redis
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from shared.jobs import enqueue
from shared.store import translated_errors
from worker.jobs.allowed import AllowedJob
from worker.reporters.base import Report
from worker.reporters.forwarder import Delivery, Fate

PENDING = {"queued", "started", "deferred", "scheduled", "created"}


class RQDeliveries:
    """The forwarder's view of RQ. Raises StoreError."""

    def __init__(self, connection: redis.Redis) -> None:
        self._connection = connection

    def send(self, delivery_id: str, target: str, report: Report) -> None:
        """Enqueue it, unless RQ knows the id already."""
        enqueue(self._connection, "report", job_id=delivery_id, target=target, report=report.document())

    def fate(self, delivery_id: str) -> Delivery:
        """What became of it."""
        with translated_errors():
            try:
                job = self._fetch(delivery_id)
                status = job.get_status()
                if status in PENDING:
                    return Delivery(Fate.PENDING, _word(job.meta.get("problem")))
                if status == "finished":
                    refused = job.return_value()
                    return Delivery(Fate.REFUSED, _word(refused)) if refused else Delivery(Fate.DELIVERED)
            except (NoSuchJobError, InvalidJobOperation):
                return Delivery(Fate.UNKNOWN)
        return Delivery(Fate.FAILED, "the job ended without an answer")

    def forget(self, delivery_id: str) -> None:
        """Remove its record."""
        with translated_errors():
            try:
                job = self._fetch(delivery_id)
            except NoSuchJobError:
                return
            try:
                job.delete()
            except ValueError:  # the record of its execution lapsed with the worker that died in it
                self._connection.delete(job.execution_registry.key)
                job.delete()

    def _fetch(self, delivery_id: str) -> Job:
        return AllowedJob.fetch(delivery_id, connection=self._connection, serializer=JSONSerializer)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
