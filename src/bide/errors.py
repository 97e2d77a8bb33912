"""Every error a caller can see: code, HTTP status, one sentence.

    GatewayError
    ├── 400  BadRequest · NoToken · NotImplementedHere
    ├── 401  InvalidToken · TokenExpired · TokenMismatched
    ├── 403  UsedUp · Disabled · Forbidden
    ├── 404  NoApi · NotFound
    ├── 405  MethodNotAllowed      the path is there, the method is not: `no_api` too
    ├── 408  RequestTimeout        the caller did not send its request in time
    ├── 413  RequestTooLarge
    ├── 429  TooManyRequests
    ├── 500  ApiFailure
    ├── 503  Unavailable           this process is starting or stopping
    └── 504  WorkTimeout           the work did not end in time, or its outcome is not known

Code raises; one handler renders `{"error": {"code", "message"}, "trace_id"}` (`bide.api.answers`).
The codes are those of the wire; `not_found`, `request_timeout` and `unavailable` are our own, for
files, slow requests and readiness, where the wire has no word. What an upstream refuses is not an
exception but a value: see `bide.providers.base.Failed`.
"""

from typing import ClassVar


class GatewayError(Exception):
    """Base of all errors that reach a caller. `str(error)` is the message."""

    code: ClassVar[str] = "api_error"
    status: ClassVar[int] = 500
    meaning: ClassVar[str] = "The gateway or an upstream failed."

    def __init__(self, message: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(message or self.meaning)
        self.retry_after_s = retry_after_s


class BadRequest(GatewayError):
    code, status = "bad_request", 400
    meaning = "The request is not well-formed, or a field is missing, of the wrong type or not allowed."


class NoToken(GatewayError):
    code, status = "no_token", 400
    meaning = "No token was sent: add the header 'Authorization: Bearer <token>'."


class NotImplementedHere(GatewayError):
    code, status = "api_not_implemented", 400
    meaning = "The operation exists, but no channel of this gateway can answer it."


class InvalidToken(GatewayError):
    code, status = "invalid_token", 401
    meaning = "The token is unknown or was revoked."


class TokenExpired(GatewayError):
    code, status = "token_expired", 401
    meaning = "The token has expired."


class TokenMismatched(GatewayError):
    code, status = "token_mismatched", 401
    meaning = "The token is valid, but for another service."


class UsedUp(GatewayError):
    code, status = "used_up", 403
    meaning = "The balance, or the cap of the credential, does not cover this request."


class Disabled(GatewayError):
    code, status = "disabled", 403
    meaning = "The credential or its application is switched off."


class Forbidden(GatewayError):
    code, status = "forbidden", 403
    meaning = "Content moderation refused the request."


class NoApi(GatewayError):
    code, status = "no_api", 404
    meaning = "There is no such path."


class NotFound(GatewayError):
    code, status = "not_found", 404
    meaning = "There is no such thing, or no longer."


class MethodNotAllowed(NoApi):
    status = 405
    meaning = "The path does not take this method."


class RequestTimeout(GatewayError):
    code, status = "request_timeout", 408
    meaning = "The request was not received in time."


class RequestTooLarge(GatewayError):
    code, status = "request_too_large", 413
    meaning = "The request is larger than this gateway accepts."


class TooManyRequests(GatewayError):
    code, status = "too_many_requests", 429
    meaning = "Too many requests: wait and try again."


class ApiFailure(GatewayError):
    pass


class Unavailable(GatewayError):
    code, status = "unavailable", 503
    meaning = "This process is not ready to answer."


class WorkTimeout(GatewayError):
    code, status = "timeout", 504
    meaning = "The work did not end in time, or its outcome is not known. Nothing was charged."


ERRORS: dict[str, type[GatewayError]] = {
    error.code: error
    for error in (
        BadRequest, NoToken, NotImplementedHere, InvalidToken, TokenExpired, TokenMismatched, UsedUp,
        Disabled, Forbidden, NoApi, NotFound, RequestTimeout, RequestTooLarge, TooManyRequests,
        ApiFailure, Unavailable, WorkTimeout,
    )
}  # fmt: skip


def from_code(code: str, message: str) -> GatewayError:
    """The error of a code, for the outcome of a task that a caller waits for. Unknown codes are 500."""
    return ERRORS.get(code, ApiFailure)(message)
