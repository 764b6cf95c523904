"""`infinitetalk app`: the studio, a web page on this machine. It takes the reference's flags of `python app.py` too."""

import argparse
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from infinitetalk.cli.command import DONE, Command, add_device_flag, add_memory_flags, memory_settings
from infinitetalk.cli.service import add_store_flags, add_url_flag, database_of, users_of
from infinitetalk.cli.text import say
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.knobs import CONTROLS, LIMIT_CONTROLS, Kind, add_flags, given
from infinitetalk.core.model_name import SEPARATOR
from infinitetalk.core.serving import LOCAL, ServiceLimits

LAST_PORT = 65535
_BY_JOB = ("model", "preview", "text", "voice", "boxes", "prompts")
"""Fields of a single job, as are all files but LoRAs: the page asks for them."""
_USUAL = [
    control for control in CONTROLS if control.kind not in (Kind.FILE, Kind.FILES) and control.name not in _BY_JOB
]


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("page")
    section.add_argument("--model", metavar="NAME", help="model chosen at first (default nano)")
    section.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in")
    section.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860")
    section.add_argument("--share", action="store_true", help="also make a public link, through gradio.live; it has "
                         "a password in any case")  # fmt: skip
    section.add_argument("--auth", metavar="USER:PASSWORD", help="ask for these before anything is shown; default: "
                         "INFINITETALK_AUTH of the environment, else nothing is asked for")  # fmt: skip
    section.add_argument("--folder", type=Path, metavar="DIR", help="keeps jobs and videos; default: the studio's "
                         "folder among the user's data")  # fmt: skip
    add_device_flag(section)
    service = parser.add_argument_group("HTTP API, served beside the page")
    add_store_flags(service)
    add_url_flag(service)
    add_memory_flags(parser)
    _add_reference_flags(parser.add_argument_group("files, as the reference implementation's app.py takes them"))
    add_flags(parser, LIMIT_CONTROLS)
    add_flags(parser, _USUAL)


def _add_reference_flags(section: argparse._ArgumentGroup) -> None:
    section.add_argument("--ckpt_dir", metavar="DIR", help="folder of Wan2.1-I2V-14B-480P, in place of --model")
    section.add_argument("--infinitetalk_dir", metavar="PATH", help="the adapter: its file, or the folder it is in")
    section.add_argument("--quant_dir", metavar="FILE", help="a transformer in fewer bits, adapter included, in place "
                         "of those two's")  # fmt: skip
    section.add_argument("--quant", choices=("int8", "fp8"), help="how it is stored; the file itself tells")
    section.add_argument("--streaming", action="store_true", help="videos of any length: so it is in any case, unless "
                         "--mode says otherwise")  # fmt: skip


def _model(arguments: argparse.Namespace, usual: dict[str, Any]) -> str:
    """The model that the flags name; a speech encoder that completes it is taken out of `usual`.

    Raises:
        RequestError: flags that do not go together.
    """
    base, adapter, whole = arguments.ckpt_dir, arguments.infinitetalk_dir, arguments.quant_dir
    if arguments.quant is not None and whole is None:
        raise RequestError("quant", arguments.quant, "needs the file, with --quant_dir")
    if base is None:
        for name, path in (("infinitetalk_dir", adapter), ("quant_dir", whole)):
            if path is not None:
                raise RequestError(name, path, "needs the folder of Wan2.1-I2V-14B-480P, with --ckpt_dir")
        return str(arguments.model or "nano")
    if arguments.model is not None:
        raise RequestError("model", arguments.model, "give a model or --ckpt_dir, not both")
    if adapter is None and whole is None:
        raise RequestError("ckpt_dir", base, "needs the adapter, with --infinitetalk_dir")
    if adapter is not None and whole is not None:
        say(f"{whole} holds the adapter: --infinitetalk_dir {adapter} is not read")
    return SEPARATOR.join(part for part in (base, whole or adapter, usual.pop("encoder", None)) if part)


def _settle(arguments: argparse.Namespace) -> tuple[str, Mapping[str, Any]]:
    """Model, and the fields that the form starts with.

    Raises:
        RequestError: values that cannot work.
    """
    from infinitetalk.core.request import check_values

    usual = given(arguments, _USUAL)
    if arguments.streaming and usual.get("mode", "streaming") != "streaming":
        raise RequestError("mode", usual["mode"], "give this or --streaming, not both")
    check_values(usual)
    return _model(arguments, usual), usual


def run(arguments: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    port: int | None = arguments.port
    if port is not None and not 1 <= port <= LAST_PORT:
        raise RequestError("port", port, f"must be from 1 to {LAST_PORT}")
    memory, limited = memory_settings(arguments), given(arguments, LIMIT_CONTROLS)
    limits = ServiceLimits(**limited) if limited else None
    model, usual = _settle(arguments)
    try:
        from infinitetalk.app.app import launch
        from infinitetalk.app.beside import Service
    except ModuleNotFoundError as error:
        if error.name not in ("gradio", "sqlalchemy", "prometheus_client"):
            raise
        raise MachineError(f"the web page needs {error.name}: pip install 'infinitetalk[app]'") from error
    from infinitetalk.server.logs import log_to_stderr

    users, _ = users_of(arguments.tokens)
    service = Service(users=users, places=tuple(arguments.allow_url), database=database_of(arguments.database))
    # Who serves others wants to know what they do; at one's own machine, what goes wrong is enough.
    log_to_stderr(logging.INFO if arguments.share or arguments.host not in LOCAL else logging.WARNING)
    # Ctrl-C is how a page is meant to end.
    with suppress(KeyboardInterrupt):
        launch(
            model,
            host=arguments.host,
            port=port,
            share=arguments.share,
            device=arguments.device,
            memory=memory,
            auth=arguments.auth,
            folder=arguments.folder,
            usual=usual,
            limits=limits,
            service=service,
        )
    return DONE


COMMAND = Command(
    name="app",
    group="make videos",
    summary="open the studio, a web page, with the HTTP API beside it",
    add_flags=_add_flags,
    run=run,
)
