"""Which back ends serve where, and what is said of the others: decided by the table, for devices of every kind."""

from dataclasses import replace

import pytest

from infinitetalk.core.attention import AUTO, BACKENDS, HALF, NAMES, Installed, Place, check, find, source, usable
from infinitetalk.core.errors import RequestError

H100 = Place(name="NVIDIA H100 80GB HBM3", kind="cuda", capability=(9, 0), dtype="bfloat16", width=128)
T4 = Place(name="Tesla T4", kind="cuda", capability=(7, 5), dtype="float16", width=128)
CPU = Place(name="x86_64", kind="cpu", capability=None, dtype="float32", width=128)
MPS = Place(name="Apple GPU", kind="mps", capability=None, dtype="float32", width=128)


def having(*modules: str) -> Installed:
    return lambda module: module in modules


@pytest.mark.parametrize(
    ("place", "modules", "names"),
    [
        (H100, (), ("math", "flash", "cudnn", "efficient")),
        (H100, ("fa3_fwd_interface", "sageattention"), NAMES),
        (H100, ("flash_attn_interface",), ("math", "flash", "cudnn", "efficient", "fa3", "fp8")),
        (replace(H100, dtype="float16"), ("fa3_fwd_interface",), ("math", "flash", "cudnn", "efficient")),
        (replace(H100, dtype="float32"), ("fa3_fwd_interface", "sageattention"), ("math", "efficient")),
        (replace(H100, width=256), ("sageattention",), ("math", "flash", "efficient")),
        (replace(H100, width=20), ("fa3_fwd_interface",), ("math", "flash")),
        (replace(H100, capability=(10, 0)), ("fa3_fwd_interface",), ("math", "flash", "cudnn", "efficient")),
        (replace(H100, capability=(8, 9)), ("sageattention",), ("math", "flash", "cudnn", "efficient", "sage")),
        (T4, ("fa3_fwd_interface", "sageattention"), ("math", "efficient")),
        (CPU, ("fa3_fwd_interface", "sageattention"), ("math", "flash")),
        (MPS, (), ("math",)),
    ],
)
def test_what_serves_where(place: Place, modules: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert usable(place, having(*modules)) == names


@pytest.mark.parametrize(
    ("name", "place", "modules", "says"),
    [
        ("fa3", H100, (), "attention = fa3: FlashAttention-3 is not installed: pip install fa3-fwd; "),
        ("sage", H100, (), "is not installed: pip install sageattention; auto, math, flash, cudnn, efficient would"),
        ("flash", T4, (), "attention = flash: it needs compute capability from 8.0, and Tesla T4 has 7.5; auto, math,"),
        ("cudnn", T4, (), "needs compute capability from 8.0, and Tesla T4 has 7.5; auto, math, efficient would work"),
        ("fa3", replace(H100, capability=(12, 0)), ("fa3_fwd_interface",), "from 9.0 and before 10.0, and .* has 12.0"),
        ("cudnn", CPU, (), r"needs an NVIDIA GPU, and this runs on x86_64 \(cpu\); auto, math, flash would work here"),
        ("flash", MPS, (), r"needs an NVIDIA GPU, and this runs on Apple GPU \(mps\); auto, math would work here"),
        ("flash", replace(H100, dtype="float32"), (), "it computes in bfloat16 or float16, and this run in float32"),
        ("fa3", replace(H100, dtype="float16"), ("fa3_fwd_interface",), "computes in bfloat16, and this run in float1"),
        (
            "sage",
            replace(H100, width=80),
            ("sageattention",),
            "heads of 64, 96, 128 channels, and this model's have 80",
        ),
        ("fp8", H100, (), "attention = fp8: FlashAttention-3 in 8-bit floats is not installed: pip install fa3-fwd; "),
        ("fp8", replace(H100, width=80), ("fa3_fwd_interface",), "heads of 64, 128, 256 channels, and this model's ha"),
        ("cudnn", replace(H100, width=20), (), "a multiple of 8 channels, and this model's have 20"),
        ("cudnn", replace(H100, width=256), (), "heads of 128 channels at most, and this model's have 256"),
    ],
)
def test_what_is_said_of_the_others(name: str, place: Place, modules: tuple[str, ...], says: str) -> None:
    with pytest.raises(RequestError, match=says) as told:
        check(name, place, having(*modules))
    assert told.value.exit_code == 2
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("place", [H100, T4, CPU, MPS])
def test_auto_and_plain_products_serve_everywhere(place: Place) -> None:
    check(AUTO, place, having())
    check("math", place, having())


def test_of_two_libraries_the_first_that_serves() -> None:
    fa3, both = find("fa3"), having("flash_attn_interface", "fa3_fwd_interface")
    for installed, module in ((both, "flash_attn_interface"), (having("fa3_fwd_interface"), "fa3_fwd_interface")):
        found = source(fa3, H100, installed)
        assert found is not None
        assert found.module == module
    assert source(find("flash"), H100, both) is None


def test_auto_takes_exact_kernels_only() -> None:
    assert [one.name for one in BACKENDS if one.automatic] == ["flash", "cudnn", "efficient", "fa3"]
    assert set(find("fa3").dtypes) == set(HALF)
