"""The package's version: that of the installed distribution, which takes it from the git tag it was built from."""

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "0+unknown"
"""Of sources that run without being installed."""


def own_version() -> str:
    """The installed version, or `UNKNOWN`."""
    try:
        return version("infinitetalk")
    except PackageNotFoundError:
        return UNKNOWN
