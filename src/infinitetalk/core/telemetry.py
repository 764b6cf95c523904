"""Nothing is told to anybody: the counters that dependencies would send are off unless the user asks for them."""

import os
from collections.abc import Mapping

OFF: Mapping[str, str] = {
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",  # `ray start` tells that its statistics are off, if to nobody
}
"""Environment variable → the value that switches a dependency's telemetry off."""


def switch_off() -> None:
    """Switches it off for what is imported later and for programs that are started; a user's own value stays."""
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
