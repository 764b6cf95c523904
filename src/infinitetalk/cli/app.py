"""`infinitetalk app`: the web page on this machine."""

import argparse
from contextlib import suppress

from infinitetalk.cli.command import DONE, Command, add_device_flag, add_memory_flags, memory_settings
from infinitetalk.core.errors import MachineError, RequestError

LAST_PORT = 65535


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("page")
    section.add_argument("--model", default="nano", metavar="NAME", help="model chosen at first (default nano)")
    section.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in")
    section.add_argument("--port", type=int, metavar="N", help="default: the first free one from 7860")
    section.add_argument("--share", action="store_true", help="also make a public link, through gradio.live")
    add_device_flag(section)
    add_memory_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    port: int | None = arguments.port
    if port is not None and not 1 <= port <= LAST_PORT:
        raise RequestError("port", port, f"must be from 1 to {LAST_PORT}")
    memory = memory_settings(arguments)
    try:
        from infinitetalk.app.app import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise MachineError("the web page needs gradio: pip install 'infinitetalk[app]'") from error

    # Ctrl-C is how a page is meant to end.
    with suppress(KeyboardInterrupt):
        launch(
            arguments.model,
            host=arguments.host,
            port=port,
            share=arguments.share,
            device=arguments.device,
            memory=memory,
        )
    return DONE


COMMAND = Command(
    name="app",
    group="make videos",
    summary="open the web page: pictures and sounds in, videos out",
    add_flags=_add_flags,
    run=run,
)
