"""`POST /{service}/{operation}`: checks a request, submits it, and answers in one of three ways:
at once with a task id, with the result when it is there, or as a stream of events."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from bide.accounts.store import GLOBAL, INDIVIDUAL, Caller
from bide.api import form as forms
from bide.api.answers import Headers, Receive, Scope, Send, encode, send_error, send_json, send_json_parts
from bide.api.body import parse_body, refuse_bad_text
from bide.api.chat import stream_chat
from bide.api.lines import lines, single, wants_lines
from bide.api.read import header, read_body
from bide.api.stream import stream
from bide.catalog import shape
from bide.catalog.load import Operation
from bide.credits.ledger import Held
from bide.credits.pricing import credits
from bide.db import DatabaseError
from bide.errors import BadRequest, from_code
from bide.flow import inputs, results
from bide.flow.expected import expected_s
from bide.flow.submit import Accepted, Submission, quote, submit
from bide.flow.waiting import ended
from bide.flow.work import Watch
from bide.gateway import Gateway
from bide.outbound.address import ForbiddenAddress
from bide.tasks.store import Upload

KEY_MAX = 255
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")


async def answer(
    gateway: Gateway, operation: Operation, caller: Caller, scope: Scope, receive: Receive, send: Send, trace_id: str
) -> int:
    """Answers one request, status included. Errors are raised."""
    headers: Headers = scope["headers"]
    by_line = wants_lines(operation, headers)
    is_form = header(headers, b"content-type").lower().startswith(b"multipart/form-data")
    if is_form:
        wanted, accepted = await _submit_form(gateway, operation, caller, scope, receive, trace_id)
    else:
        raw = await read_body(receive, headers, gateway.settings.json_bytes_max)
        body = parse_body(raw, gateway.settings.json_depth_max)
        if operation.headers and _filled(operation, headers, body):
            raw = msgspec.json.encode(body)  # the task is worked on from what is stored
        values = operation.check(body)
        wanted = await _submission(gateway, operation, caller, scope, values, raw, None, trace_id)
        accepted = None if values.get("dry_run") else await submit(gateway, wanted)
    shown = wanted.trace_id if _fits_header(wanted.trace_id) else trace_id
    if accepted is None:
        await send_json(send, 200, encode(await _quoted(gateway, wanted)), shown)
        return 200
    if not wanted.waits:
        answered = shape.accepted(accepted.task_id, wanted.trace_id)
        if by_line:
            return await single(send, answered, shown)
        await send_json(send, 200, encode(answered), shown)
        return 200
    if by_line:
        return await lines(gateway, wanted, accepted, send, shown)
    if wanted.values.get("stream") and operation.entry.chat:
        return await stream_chat(gateway, wanted, accepted, send, shown)
    if wanted.values.get("stream") and operation.entry.stream_prefix:
        return await stream(gateway, wanted, accepted, send, shown)
    return await _inline(gateway, wanted, accepted, send, shown)


def _filled(operation: Operation, headers: Headers, body: dict[str, Any]) -> bool:
    """Takes fields that the body lacks from their headers; whether there was one."""
    found = False
    for name, its_header in operation.headers:
        spellings = (name, *operation.fields[name].aliases)
        if all(body.get(one) in (None, "") for one in spellings) and (said := header(headers, its_header)):
            body[name] = said.decode("latin-1").strip()
            found = True
    return found


async def _submit_form(
    gateway: Gateway, operation: Operation, caller: Caller, scope: Scope, receive: Receive, trace_id: str
) -> tuple[Submission, Accepted | None]:
    form = await forms.read_form(gateway, receive, scope["headers"])
    taken = False
    try:
        _filled(operation, scope["headers"], form.body)
        refuse_bad_text(form.body)
        values = operation.check(form.body, form=True)
        pictures = await forms.check_pictures(gateway, form)
        if values.get("dry_run"):
            return await _submission(gateway, operation, caller, scope, values, b"", (), trace_id), None
        if header(scope["headers"], b"idempotency-key"):
            form.digest = hashlib.sha256()  # another picture of the same size is another request
        await forms.store_pictures(gateway, form, pictures)
        raw = msgspec.json.encode(form.body)
        wanted = await _submission(
            gateway, operation, caller, scope, values, raw, tuple(form.uploads), trace_id,
            form.digest.digest() if form.digest is not None else b"",
        )
        accepted = await submit(gateway, wanted)
        taken = not accepted.known
        return wanted, accepted
    except DatabaseError:
        taken = True  # perhaps: nobody knows. A task must not lose its pictures; orphans go with their day
        raise
    finally:
        await form.close()
        if not taken:
            await forms.discard(gateway, form)


async def _submission(
    gateway: Gateway, operation: Operation, caller: Caller, scope: Scope, values: Mapping[str, Any], raw: bytes,
    uploads: tuple[Upload, ...] | None, trace_id: str, digest: bytes = b"",
) -> Submission:  # fmt: skip
    """What the common fields ask for: who waits, who is called back, by which name. `digest`: that of the uploads."""
    callback_url = values.get("callback_url") or None
    if callback_url is not None:
        await _check_address(gateway, "callback_url", callback_url)
    for name, url in inputs.addresses(operation, values):
        await _check_address(gateway, name, url)
    called_back = callback_url is not None and not wants_lines(operation, scope["headers"])
    at_once = called_back or values.get("async", not operation.entry.inline)
    key = header(scope["headers"], b"idempotency-key").decode("latin-1").strip()
    if len(key) > KEY_MAX:
        raise BadRequest(f"The header `idempotency-key` is longer than {KEY_MAX} characters.")
    return Submission(
        caller=caller, operation=operation, values=dict(values), request=raw, uploads=uploads,
        trace_id=values.get("trace_id") or trace_id, base_url=base_url(gateway, scope), waits=not at_once,
        callback_url=callback_url, idempotency_key=f"{operation.key} {key}" if key else None,
        body_hash=hashlib.sha256(raw + digest).hexdigest() if key else "",
    )  # fmt: skip


async def _quoted(gateway: Gateway, wanted: Submission) -> dict[str, Any]:
    """What a `dry_run` answers. Amounts are credits; `balances` would pay, and are none where it is not covered."""
    found, caller = await quote(gateway, wanted), wanted.caller
    paid = found.held or Held()
    scope = GLOBAL if caller.service is None else INDIVIDUAL
    own = {"application_id": caller.application_id, "scope": scope, "amount": credits(paid.own)}
    general = {"application_id": caller.general_id, "scope": GLOBAL, "amount": credits(paid.general)}
    return {
        "success": True, "dry_run": True, "trace_id": wanted.trace_id, "type": wanted.operation.type,
        "price": {
            "amount": credits(found.price.total), "unit_amount": credits(found.price.unit_price),
            "units": found.price.units, "unit": found.price.unit,
        },
        "covered": found.held is not None,
        "balances": [own] * bool(paid.own) + [general] * bool(paid.general),
        "channel": found.channel,
        "expected_s": expected_s(gateway, wanted.operation, wanted.operation.model(wanted.values)),
    }  # fmt: skip


async def _check_address(gateway: Gateway, name: str, url: str) -> None:
    try:
        await gateway.outbound.checker.check(url)
    except ForbiddenAddress as error:
        raise BadRequest(f"`{name}`: {error}") from None


def base_url(gateway: Gateway, scope: Scope) -> str:
    """Where this caller reaches the gateway: results are linked below it."""
    if gateway.settings.public_url:
        return gateway.settings.public_url.rstrip("/")
    host = header(scope["headers"], b"host").decode("latin-1")
    if not _HOST.fullmatch(host):
        host = f"{gateway.settings.host}:{gateway.settings.port}"
    return f"{scope['scheme']}://{host}"


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


async def _inline(gateway: Gateway, wanted: Submission, accepted: Accepted, send: Send, trace_id: str) -> int:
    """Waits for the result and answers it, or the error it ended with."""
    b64 = results.wants_base64(wanted.values)
    spooled = b64 and wanted.idempotency_key is None
    response = await ended(gateway, accepted, Watch(spooled=spooled))
    try:
        if not response["success"]:
            failed = response["error"]
            error = from_code(failed["code"], failed["message"])
            await send_error(send, error, trace_id)
            return error.status
        if b64:  # spooled, or in storage if another worker ended the task
            response = await results.with_base64(gateway, response, keep_url=False)
        body = encode(shape.inline_answer(wanted.operation, response))
        if b64:
            filled = results.fill(gateway, body)
            await send_json_parts(send, filled.size, filled.parts, trace_id)
        else:
            await send_json(send, 200, body, trace_id)
        return 200
    finally:
        if spooled:
            results.release(gateway, response)
