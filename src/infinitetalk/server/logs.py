"""Logs: a JSON object on each line, with the job's number where there is one, and without secrets."""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any

FIELDS = ("job", "owner", "attempt", "state", "error", "method", "route", "status", "seconds")
"""What a line may carry beside its message."""

_SECRETS = re.compile(r"(?i)(bearer\s+|token[=:]\s*|password[=:]\s*|://[^:/\s]+:)([^\s\"'@,;]+)")


def without_secrets(text: str) -> str:
    """The text with tokens and passwords replaced, should one ever get there.

    >>> without_secrets("postgresql://anna:geheim@host/db, Authorization: Bearer abc")
    'postgresql://anna:***@host/db, Authorization: Bearer ***'
    """
    return _SECRETS.sub(r"\1***", text)


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return without_secrets(json.dumps(line, ensure_ascii=True, default=str))


def log_to_stderr(level: int = logging.INFO) -> None:
    """Sends this process's logs to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("infinitetalk", "uvicorn.error"):
        logging.getLogger(name).setLevel(level)
