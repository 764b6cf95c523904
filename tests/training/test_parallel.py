"""Processes that train together are one training on all of their batches."""

import os
import socket
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import start_processes

from training import parallel
from training.clock import Budget, RunLog
from training.nano.encode import Share
from training.optimiser import MuonAdam

DATA = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0))


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))


def learn(net: nn.Module, batch: torch.Tensor, steps: int = 3) -> None:
    optimiser = MuonAdam(net, 1e-2, chosen=lambda _, value: value.shape == (6, 6))
    for _ in range(steps):
        optimiser.forget_gradients()
        net(batch).square().mean().backward()
        optimiser.step()


def work(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    assert parallel.begin("cpu") == torch.device("cpu")
    RunLog(folder / "log.txt")(f"process {rank}")
    net = network(rank)  # the second begins as somebody else
    parallel.same(list(net.parameters()))
    learn(net, DATA[rank])
    budget = Budget(1000.0, spent=1000.0 * (1 - rank))  # the first one's clock says that it is over
    steps = sum(1 for _ in budget.steps())
    torch.save({**net.state_dict(), "steps": torch.tensor(steps)}, folder / f"{rank}.pt")
    parallel.end()


@pytest.mark.timeout(120)
def test_two_processes_learn_as_one_from_both_batches(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(work, (port, tmp_path), nprocs=2)
    alone = network(0)
    learn(alone, DATA.flatten(0, 1))
    for rank in range(2):
        made = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert made.pop("steps") == 1
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(made[name], value, atol=1e-5, rtol=1e-4)
    assert (tmp_path / "log.txt").read_text().count("process") == 1


def test_alone_nothing_changes() -> None:
    assert parallel.begin("cpu") == torch.device("cpu")
    assert parallel.first()
    assert parallel.agreed(0.25, 1.0) == (0.25, 1.0)
    net = network(1)
    before = [value.clone() for value in net.parameters()]
    parallel.same(list(net.parameters()))
    parallel.mean_gradients(list(net.parameters()))
    parallel.end()
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters(), strict=True))


def test_shares_of_clips() -> None:
    files = list(range(10))
    shares = [Share.parse(f"{index}/3") for index in range(3)]
    assert sorted(name for share in shares for name in files[share.index :: share.count]) == files
    for text in ("3/3", "-1/2", "1"):
        with pytest.raises(ValueError):
            Share.parse(text)
