"""`infinitetalk serve`: the HTTP API on this machine."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from infinitetalk.cli.command import DONE, Command, add_device_flag, add_memory_flags, memory_settings
from infinitetalk.cli.service import add_store_flags, add_url_flag, database_of, users_of
from infinitetalk.cli.text import say
from infinitetalk.core.errors import MachineError, RequestError
from infinitetalk.core.knobs import LIMIT_CONTROLS, add_flags, given
from infinitetalk.core.memory import MemorySettings
from infinitetalk.core.serving import ServiceLimits

if TYPE_CHECKING:
    from infinitetalk.server.run import Place
    from infinitetalk.server.settings import ServerSettings

LAST_PORT = 65535

NEEDS = frozenset(
    {"fastapi", "uvicorn", "sqlalchemy", "prometheus_client", "multipart", "python_multipart", "starlette"}
)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    section = parser.add_argument_group("service")
    section.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="0.0.0.0 lets other machines in")
    section.add_argument("--port", type=int, default=8000, metavar="N", help="default 8000; 0: any that is free")
    section.add_argument("--folder", type=Path, default=Path("infinitetalk-jobs"), metavar="FOLDER",
                         help="of the jobs and their files (default infinitetalk-jobs)")  # fmt: skip
    add_store_flags(section)
    section.add_argument("--ray", nargs="?", const="auto", metavar="auto|ADDRESS",
                         help="make the videos on a Ray cluster, and serve by Ray Serve")  # fmt: skip
    section.add_argument("--store", metavar="URL", help="with --ray: where finished windows go, such as "
                         "s3://BUCKET/FOLDER; every node must reach it (default: a folder of --folder)")  # fmt: skip
    offer = parser.add_argument_group("what requests may name")
    offer.add_argument("--model", action="append", metavar="NAME[=MODEL]",
                       help="a model, once for each; the first is the default (nano)")  # fmt: skip
    offer.add_argument("--encoder", action="append", default=[], metavar="NAME", help="a speech encoder, once for each")
    offer.add_argument("--loras", type=Path, metavar="FOLDER", help="LoRAs, by their files' names")
    add_url_flag(offer)
    add_flags(parser, LIMIT_CONTROLS)
    add_device_flag(parser.add_argument_group("run"))
    add_memory_flags(parser)


def models_of(words: list[str] | None) -> dict[str, str]:
    """Name → model, of the words of `--model`.

    Raises:
        RequestError: a word that is no model's.
    """
    models = {}
    for word in words or ["nano"]:
        name, equals, path = word.partition("=")
        if not name or (equals and not path):
            raise RequestError("model", word, "must be NAME or NAME=MODEL")
        models[name if equals else Path(word).name or word] = path or word
    return models


def run(arguments: argparse.Namespace) -> int:
    """Serves until Ctrl-C or SIGTERM."""
    port: int = arguments.port
    if not 0 <= port <= LAST_PORT:
        raise RequestError("port", port, f"must be from 0 to {LAST_PORT}")
    memory = memory_settings(arguments)
    if arguments.store is not None and arguments.ray is None:
        raise RequestError("store", arguments.store, "is for a cluster; give --ray as well")
    limits = ServiceLimits(**given(arguments, LIMIT_CONTROLS))
    models = models_of(arguments.model)
    if arguments.loras is not None and not arguments.loras.is_dir():
        raise RequestError("loras", arguments.loras, "is no folder; give the one that holds the LoRAs")
    try:
        from infinitetalk.server.logs import log_to_stderr
        from infinitetalk.server.run import Place, serve
        from infinitetalk.server.settings import ServerSettings, Users, own_token
    except ModuleNotFoundError as error:
        if error.name not in NEEDS:
            raise
        raise MachineError(f"the service needs {error.name}: pip install 'infinitetalk[serve]'") from error
    from infinitetalk.weights.folder import ModelFolder

    for model in models.values():
        ModelFolder.open(model)
    users, where = users_of(arguments.tokens)
    if users is None:
        users, where = Users.of({"user": own_token(arguments.folder)}), f"{arguments.folder / 'token'}"
    settings = ServerSettings(
        users=users,
        models=models,
        encoders=tuple(arguments.encoder),
        loras=arguments.loras,
        places=tuple(arguments.allow_url),
        limits=limits,
    )
    log_to_stderr()
    place = Place(folder=arguments.folder, host=arguments.host, port=port, database=database_of(arguments.database))

    def ready(url: str) -> None:
        say(f"Serving {url}  (tokens: {where}; stop with Ctrl-C)")

    if arguments.ray is None:
        serve(place, settings, device=arguments.device, memory=memory, ready=ready)
    else:
        _serve_on_ray(arguments, place, settings, memory, ready)
    return DONE


def _serve_on_ray(
    arguments: argparse.Namespace, place: "Place", settings: "ServerSettings", memory: MemorySettings,
    ready: Callable[[str], None],
) -> None:  # fmt: skip
    from infinitetalk.server.on_ray import Service, serve_on_ray

    place = replace(place, folder=place.folder.absolute())
    store = arguments.store or str(place.folder / "cluster")
    service = Service(store=store, place=place, settings=settings, device=arguments.device, memory=memory)
    serve_on_ray(arguments.ray, service, ready)


COMMAND = Command(
    name="serve",
    group="make videos",
    summary="serve the HTTP API: jobs in, videos out",
    add_flags=_add_flags,
    run=run,
    example="infinitetalk serve --port 8000 --folder jobs",
)
