"""Pages asked for in process: what the server needs for each, and which of its statements took how long."""

import gzip
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.core.management.base import CommandError
from django.db import connection
from django.test import Client

SHOWN = 4
"""Statements that are told of the slowest page."""


@dataclass(frozen=True)
class Address:
    """``case`` says in a word what is particular about it, among the pages of its kind."""

    case: str
    url: str


@dataclass
class Statements:
    """A wrapper of the connection: the statements of one request, each with its milliseconds."""

    found: list[tuple[float, str]] = field(default_factory=list)

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.found.append(((time.perf_counter() - began) * 1000, sql))


@dataclass(frozen=True)
class Sample:
    address: Address
    ms: float
    cpu_ms: float
    statements: list[tuple[float, str]]
    kib: float


def ask(client: Client, address: Address) -> Sample:
    """One request. The time is all that passes in ``client.get``; the size is that of the gzipped answer."""
    statements = Statements()
    with connection.execute_wrapper(statements):
        began, busy = time.perf_counter(), time.process_time()
        answer = client.get(address.url)
        ms, cpu_ms = (time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000
    if answer.status_code != 200:
        raise CommandError(f"{address.url} answered {answer.status_code}.")
    body = b"".join(answer) if answer.streaming else answer.content
    return Sample(address, ms, cpu_ms, statements.found, len(gzip.compress(body, 6)) / 1024)


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Milliseconds (p50, p95, max), the most queries and KiB of one page, the same by case, and the slowest page.

    ``cpu_p95`` is of this process's own work, which other work on the machine draws out less.
    """
    slowest = max(samples, key=lambda sample: sample.ms)
    cases = dict.fromkeys(sample.address.case for sample in samples)
    return _figures(samples) | {
        "cases": {case: _figures([s for s in samples if s.address.case == case]) for case in cases},
        "slowest": {
            "url": slowest.address.url,
            "statements": [(ms, _shortened(sql)) for ms, sql in sorted(slowest.statements, reverse=True)[:SHOWN]],
        },
    }


def _figures(samples: Sequence[Sample]) -> dict[str, Any]:
    ms = np.array([sample.ms for sample in samples])
    return {
        "n": len(samples),
        "p50": float(np.quantile(ms, 0.5)),
        "p95": float(np.quantile(ms, 0.95)),
        "max": float(ms.max()),
        "cpu_p95": float(np.quantile([sample.cpu_ms for sample in samples], 0.95)),
        "queries": max(len(sample.statements) for sample in samples),
        "kib": max(sample.kib for sample in samples),
    }


def _shortened(sql: str) -> str:
    return re.sub(r"^SELECT .*? FROM ", "SELECT … FROM ", " ".join(sql.split()))[:600]
