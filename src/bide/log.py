"""Log lines: JSON for machines, text on a terminal. No line carries a token, a key or a picture."""

import logging
import sys
from typing import Any

import structlog
from msgspec import json

log: Any = structlog.get_logger("bide")


def configure(level: str, style: str) -> None:
    """Sets the format of all lines of this process; they go to standard output."""
    text = style == "text" or (style == "auto" and sys.stdout.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
        if text
        else structlog.processors.JSONRenderer(lambda line, **_: json.encode(line, enc_hook=str).decode())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=False,
    )
    plain = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format=plain, force=True)
