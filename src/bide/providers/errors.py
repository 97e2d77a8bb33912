"""What an upstream's error means to us: `Failed` or `Unknown`. Tables, read in this order.

1. `CODES`: the structured code or type the upstream gave.
2. `STATUSES`: the HTTP status, which also says which `PATTERNS` of the message may refine it; they are needed
   because middlemen overwrite codes (`moderation_blocked` becomes `"400"`) and keep the message.
3. `TYPES`: types so general that they count only where the status says nothing, as in the middle of a stream.

What decides between `Failed` and `Unknown` is whether the upstream may have done, and billed, the work. A
complete 4xx answer is a refusal. 500 and 503 with an error body of the upstream's own are failures. Without
one, and for every 502, 504 and time-out a middleman reports, nobody knows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bide.providers import redact, words
from bide.providers.base import Failed, Unknown
from bide.providers.words import Words

DETAIL_MAX = 4096
"""Characters of the upstream's own words kept for the operator."""
HOUR_S = 3600.0
NOT_KNOWN = "The upstream gave no usable answer: whether it did the work is not known."
_SHOWN_HEADERS = (
    "x-request-id", "request-id", "apim-request-id", "cf-ray", "retry-after", "retry-after-ms", "location",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """A row's right side; see `Failed`. `said` replaces the upstream's words where they speak of our account."""

    code: str
    scope: Literal["task", "channel"] = "task"
    retryable: bool = False
    cool_s: float = 0.0
    said: str = ""


FORBIDDEN = Rule("forbidden")
REFUSED = Rule("bad_request")
NO_MODEL = Rule("api_error", "channel", cool_s=HOUR_S, said="The upstream does not offer this model.")
ACCOUNT = Rule("api_error", "channel", cool_s=HOUR_S, said="The upstream refused the gateway's account.")
QUOTA = Rule("api_error", "channel", cool_s=HOUR_S / 4, said="The upstream refused the gateway's account.")
ADDRESS = Rule("api_error", "channel", cool_s=HOUR_S, said="The upstream's address is not that of such a service.")
BUSY = Rule("too_many_requests", "channel", retryable=True, cool_s=5.0)
BROKEN = Rule("api_error", "channel", retryable=True)
TIMED_OUT = Rule("timeout", "channel")
OTHER = Rule("api_error", "channel")

CODES: Mapping[str, Rule] = {
    code: rule
    for rule, codes in (
        (FORBIDDEN, "moderation_blocked content_policy_violation image_content_policy_violation invalid_prompt "
                    "content_filter responsible_aipolicy_violation has_nsfw_concepts sensitive_words_detected "
                    "forbidden"),
        (REFUSED, "bad_request invalid_image invalid_image_format invalid_image_mode invalid_image_url "
                  "invalid_base64_image image_parse_error image_too_large image_too_small image_file_too_large "
                  "image_file_not_found empty_image_file unsupported_image_media_type failed_to_download_image "
                  "invalid_value invalid_type unknown_parameter unsupported_parameter unsupported_value "
                  "missing_required_parameter string_above_max_length"),
        (NO_MODEL, "model_not_found model_not_available model_deprecated deployment_not_found "
                   "deployment_model_not_supported no_available_channel api_not_implemented"),
        (ACCOUNT, "invalid_api_key incorrect_api_key authentication_error invalid_authentication no_token "
                  "invalid_token token_expired token_mismatched disabled unauthorized unauthenticated access_denied "
                  "permission_denied permission_error insufficient_permissions account_deactivated "
                  "organization_must_be_verified unsupported_country_region_territory ip_not_authorized"),
        (QUOTA, "insufficient_quota billing_hard_limit_reached billing_not_active used_up payment_required "
                "insufficient_user_quota insufficient_balance credits_exhausted"),
        (BUSY, "rate_limit_exceeded rate_limit_error rate_limit throttling_error too_many_requests "
               "resource_exhausted slow_down requests tokens"),
        (TIMED_OUT, "timeout timeout_error request_timeout generation_timeout aborted deadline_exceeded"),
    )
    for code in codes.split()
} | {"Forbidden": ACCOUNT}  # fmt: skip
"""By code in `snake_case`. `forbidden` is how gateways like this one report moderation; Azure's capitalised
`Forbidden` is a firewall or a missing role."""

TYPES: Mapping[str, Rule] = {
    "invalid_request_error": REFUSED, "invalid_argument": REFUSED, "image_generation_user_error": REFUSED,
    "server_error": BROKEN, "internal_error": BROKEN, "internal_server_error": BROKEN,
    "image_generation_server_error": BROKEN, "service_unavailable_error": BROKEN, "overloaded_error": BROKEN,
    "unavailable": BROKEN, "internal": BROKEN,
}  # fmt: skip

STATUSES: Mapping[int, Rule] = {
    400: REFUSED, 401: ACCOUNT, 402: QUOTA, 403: ACCOUNT, 404: NO_MODEL, 405: ADDRESS, 408: BROKEN, 409: BUSY,
    410: NO_MODEL, 413: REFUSED, 422: REFUSED, 425: BROKEN, 429: BUSY, 451: FORBIDDEN,
    501: ADDRESS, 503: BROKEN, 521: BROKEN, 522: BROKEN, 523: BROKEN, 525: BROKEN, 526: BROKEN, 529: BROKEN,
}  # fmt: skip
"""3xx is `ADDRESS`, another 4xx `OTHER`, another 5xx `BROKEN` or, see `_is_unknown`, not known at all.
521 to 526 are a content network's words for an origin it could not connect to."""

MAYBE_DONE = frozenset({502, 504, 520, 524, 527})
"""Statuses of a middleman that may have lost the answer of work that was done."""

_ANY = frozenset(STATUSES)
_WHERE_REFUSED = frozenset({400, 403, 404, 409, 422, 500, 503})

PATTERNS: tuple[tuple[Rule, frozenset[int], re.Pattern[str]], ...] = tuple(
    (rule, statuses, re.compile("|".join(alternatives), re.IGNORECASE))
    for rule, statuses, alternatives in (
        (REFUSED, frozenset({400, 422}), (
            r"(?:unknown|unsupported|unrecognized|unexpected) (?:parameter|argument|field|keyword)",
        )),
        (QUOTA, _ANY, (
            r"exceeded your current quota", r"insufficient[_ ](?:quota|balance|credits?|funds|user quota)",
            r"billing (?:hard )?limit", r"billing is not active", r"out of credits?",
        )),
        (ACCOUNT, _WHERE_REFUSED, (
            r"must be verified", r"(?:invalid|incorrect|missing|expired|no) api[ _-]?key",
            r"api[ _-]?key (?:is )?(?:not valid|invalid|expired|missing)",
            r"account (?:is |has been )?(?:deactivated|suspended)",
        )),
        (FORBIDDEN, _WHERE_REFUSED | {451}, (
            r"safety (?:system|filter|violation|policy|checker|reasons)", r"safety_violations",
            r"content[ _](?:policy|management policy|filter)", r"usage polic(?:y|ies)", r"responsible ai",
            r"violat\w+ .{0,40}polic(?:y|ies)", r"\bnsfw\b", r"\bflagged\b", r"\bbanned\b", r"moderat",
        )),
        (NO_MODEL, _WHERE_REFUSED, (
            r"no longer available", r"unknown model", r"no available channel", r"not have access to model",
            r"\b(?:model|deployment)\b.{0,80}(?:not found|does ?n[o']t exist|not exist|deprecated|decommissioned)",
            r"\b(?:model|deployment)\b.{0,80}(?:not supported|shut down)",
        )),
        (BUSY, frozenset({400, 403, 500, 503}), (
            r"rate[ _-]?limit", r"too many requests", r"throttl", r"resource_exhausted",
        )),
        (REFUSED, frozenset({500}), (
            r"divisible by", r"multiple of \d", r"(?:invalid|unsupported) (?:image )?size",
        )),
        (TIMED_OUT, frozenset({408, 500, 503}), (r"timed? ?out\b",)),
    )
)  # fmt: skip
"""Tried in this order for the statuses of their row, and all of them where there is no status."""

GRPC: Mapping[int, Rule] = {
    3: REFUSED, 4: TIMED_OUT, 7: ACCOUNT, 8: BUSY, 10: TIMED_OUT, 13: BROKEN, 14: BROKEN, 16: ACCOUNT,
}  # fmt: skip
"""Status numbers of gRPC, as operations report them: pass it as `numbers` to `from_words`."""
MIDJOURNEY: Mapping[int, Rule] = {4: REFUSED, 23: BUSY, 24: FORBIDDEN}
"""Result codes of the Midjourney proxies."""


def from_answer(status: int, headers: Mapping[str, str], body: bytes, *, key: str = "") -> Failed | Unknown:
    """The outcome of a submission that was answered with a status other than 2xx.

    `headers` are looked up in lower case; `body` is what was read of the error (at most 64 KiB make sense);
    `key` is the channel's key, which is taken out of every text.
    """
    said = words.from_bytes(body)
    rule = _rule(said, status)
    detail = _detail(f"HTTP {status}", headers, body.decode("utf-8", "replace"), key)
    if rule is TIMED_OUT or _is_unknown(status, said, rule):
        return Unknown(NOT_KNOWN, detail, status)
    return _failed(rule, said, status, detail, key, words.wait_s(headers, said.message))


def from_words(
    said: Words, *, key: str = "", detail: str = "", headers: Mapping[str, str] | None = None,
    numbers: Mapping[int, Rule] | None = None, status: int | None = None,
) -> Failed:  # fmt: skip
    """The outcome of work whose failure the upstream reports in a document or in a stream.

    `numbers` says what numeric codes mean there; without it 400 to 599 are taken for HTTP statuses.
    """
    rule = (numbers or {}).get(said.number or 0)
    if rule is None:
        is_status = numbers is None and said.number is not None and 400 <= said.number <= 599
        rule = _rule(said, said.number if is_status else None)
    text = _detail("", headers or {}, detail or said.message, key)
    return _failed(rule, said, status, text, key, words.wait_s(headers or {}, said.message))


def not_sent(error: BaseException, *, key: str = "") -> Failed:
    """The request never reached the upstream as a whole: refused, no such host, no handshake, no free connection."""
    return Failed(
        "api_error", "The upstream could not be reached.", "channel", retryable=True,
        detail=redact.secrets(repr(error), key)[:DETAIL_MAX],
    )  # fmt: skip


def lost(
    reason: str, headers: Mapping[str, str] | None = None, *, status: int | None = None, key: str = ""
) -> Unknown:
    """The request was sent, and then the connection broke, time ran out, or the answer cannot be read."""
    return Unknown(NOT_KNOWN, _detail("", headers or {}, reason, key), status)


def no_picture(message: str, detail: str = "", *, scope: Literal["task", "channel"] = "task") -> Failed:
    """The upstream says it succeeded, but there is nothing to hand on."""
    return Failed("api_error", redact.for_caller(message), scope, detail=detail[:DETAIL_MAX], status=200)


def _rule(said: Words, status: int | None) -> Rule:
    rule = _named(said) or _rule_of_status(said, status)
    if rule is REFUSED and said.param == "model":
        return NO_MODEL  # "Invalid value: 'dall-e-3'": models die, and the channel's map has not followed
    return rule


def _rule_of_status(said: Words, status: int | None) -> Rule:
    if said.param != "moderation":
        for rule, statuses, pattern in PATTERNS:
            if (status is None or status in statuses) and pattern.search(said.message):
                return rule
    if status is None:
        return next((TYPES[name] for name in map(_snake, (*said.codes, said.kind)) if name in TYPES), OTHER)
    if status in STATUSES:
        return STATUSES[status]
    if status < 400:
        return ADDRESS
    return OTHER if status < 500 else BROKEN


def _named(said: Words) -> Rule | None:
    for code in (*said.codes, said.kind):
        rule = CODES.get(code) or CODES.get(_snake(code))
        if rule is not None:
            return rule
    return None


def _snake(code: str) -> str:
    """`DeploymentNotFound`, `RESOURCE_EXHAUSTED`, `rate-limit` → `deployment_not_found` …"""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", code[:100]).lower().replace("-", "_").replace(" ", "_")


def _is_unknown(status: int, said: Words, rule: Rule) -> bool:
    if status < 500:
        return False
    if status in MAYBE_DONE:
        return _named(said) is None
    return rule is BROKEN and status not in STATUSES and not said.structured


def _failed(rule: Rule, said: Words, status: int | None, detail: str, key: str, after_s: float | None) -> Failed:
    message = rule.said or redact.for_caller(said.message, key)
    if not message:
        message = f"The upstream answered HTTP {status}." if status else "The upstream failed without a reason."
    if rule is REFUSED and said.param and said.param not in message:
        message = f"{message[: redact.MESSAGE_MAX - 80]} (field {redact.for_caller(said.param, key)[:60]})"
    return Failed(
        rule.code, message, rule.scope, rule.retryable,
        after_s=after_s if rule.retryable else None,
        cool_s=after_s if rule is BUSY and after_s is not None else rule.cool_s,
        detail=detail, status=status,
    )  # fmt: skip


def _detail(first: str, headers: Mapping[str, str], text: str, key: str) -> str:
    shown: list[Any] = [first, *(f"{name}: {headers[name]}" for name in _SHOWN_HEADERS if name in headers)]
    head = "; ".join(filter(None, shown))
    return redact.secrets("\n".join(filter(None, (head, text[: 2 * DETAIL_MAX]))), key)[:DETAIL_MAX]
