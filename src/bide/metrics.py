"""What is counted, for Prometheus. Label children are looked up once and kept: that is the costly part."""

from collections.abc import Mapping
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from bide.errors import ERRORS

_requests = Counter("bide_requests_total", "HTTP requests answered.", ["route", "status"])
_seconds = Histogram(
    "bide_request_seconds", "Seconds from request to answer.", ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
)  # fmt: skip
_tasks = Counter("bide_tasks_total", "Tasks ended, by type, final state and error code.", ["type", "state", "code"])
_task_seconds = Histogram(
    "bide_task_seconds", "Seconds from acceptance to the end of a task.", ["type"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800),
)  # fmt: skip
_attempts = Counter("bide_attempts_total", "Submissions to channels, by outcome.", ["channel", "outcome"])
_deliveries = Counter("bide_delivery_attempts_total", "Callback posts, by error class; empty: delivered.", ["error"])
_takeovers = Counter("bide_takeovers_total", "Tasks taken over from a worker that died while it asked an upstream.")
_waits = Counter(
    "bide_slot_waits_total", "Tasks that found every slot taken: `joined` the line, `granted` a slot, the line was"
    " `full`, or they waited `too_long`.", ["event"],
)  # fmt: skip
_circuits = Gauge(
    "bide_channel_open_circuits", "Models for which a channel rests after a failure, or waits to be tried again.",
    ["channel"], multiprocess_mode="livesum",
)  # fmt: skip
_lost_leases = Counter("bide_lost_leases_total", "Results that came too late: another worker had the lease by then.")
# Of several processes the last that looked is right.
_audit_problems = Gauge(
    "bide_audit_problems", "Contradictions that the last audit of the books found, by check.", ["check"],
    multiprocess_mode="mostrecent",
)  # fmt: skip
_audit_at = Gauge(
    "bide_audit_timestamp_seconds", "When the books were last audited.", multiprocess_mode="mostrecent"
)


@cache
def _request_counter(route: str, status: int) -> Counter:
    return _requests.labels(route, str(status))


@cache
def _request_histogram(route: str) -> Histogram:
    return _seconds.labels(route)


def request(route: str, status: int, seconds: float) -> None:
    """One HTTP request. `route` is a template, never a path with ids."""
    _request_counter(route, status).inc()
    _request_histogram(route).observe(seconds)


@cache
def _task_counter(kind: str, state: str, code: str) -> Counter:
    return _tasks.labels(kind, state, code)


@cache
def _task_histogram(kind: str) -> Histogram:
    return _task_seconds.labels(kind)


def task(kind: str, state: str, code: str, seconds: float) -> None:
    """One task that ended. A code that is none of ours may be a text of a caller or an upstream: it is no label."""
    _task_counter(kind, state, code if not code or code in ERRORS else "other").inc()
    _task_histogram(kind).observe(seconds)


@cache
def _attempt_counter(channel: str, outcome: str) -> Counter:
    return _attempts.labels(channel, outcome)


def attempt(channel: str, outcome: str) -> None:
    _attempt_counter(channel, outcome).inc()


@cache
def _delivery_counter(error: str) -> Counter:
    return _deliveries.labels(error)


def delivery(error: str) -> None:
    _delivery_counter(error).inc()


def takeover() -> None:
    _takeovers.inc()


def waits(event: str, count: int = 1) -> None:
    _waits.labels(event).inc(count)


def circuits(channel: str, not_closed: int) -> None:
    """How many circuits of a channel are not closed in this process."""
    _circuits.labels(channel).set(not_closed)


def lost_lease() -> None:
    _lost_leases.inc()


def audit(problems: Mapping[str, int], at_s: float) -> None:
    """The result of one audit: how many problems each check found."""
    for check, count in problems.items():
        _audit_problems.labels(check).set(count)
    _audit_at.set(at_s)
