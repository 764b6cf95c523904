"""What a queue refuses."""

from infinitetalk.core.errors import InfiniteTalkError, MachineError


class UnknownJobError(InfiniteTalkError):
    """No job of this number, or another's."""

    exit_code = 2

    def __init__(self, job: str) -> None:
        super().__init__(f"there is no job {job[:64]}")


class QueueFullError(MachineError):
    """As many jobs wait as may."""


class KeyReusedError(InfiniteTalkError):
    """A key that stands for another request already."""

    exit_code = 2

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:64]} was given to another request before; give each request a key of its own")


class StillAtWorkError(InfiniteTalkError):
    """A job that has to be over first."""

    exit_code = 2

    def __init__(self, job: str) -> None:
        super().__init__(f"the job {job} is not over; cancel it first")
