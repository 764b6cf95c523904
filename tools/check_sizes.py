"""Checks the budgets on size and annotation that keep the code readable; exits 1 and lists what breaks them."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_FUNCTION_LINES = 70
P90_FUNCTION_LINES = 32
MOST_FILE_LINES = 500
MOST_TREE_BYTES = 36_000_000

Function = ast.FunctionDef | ast.AsyncFunctionDef


def tracked_files() -> list[Path]:
    """Every file under version control or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for path in map(Path, listing.splitlines()) if path.is_file()]


def functions(path: Path) -> Iterator[tuple[Function, int]]:
    """Each function of a file with its number of lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node, (node.end_lineno or node.lineno) - node.lineno + 1


def unannotated(function: Function) -> bool:
    """Whether an argument or the result has no annotation."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    named = [argument for argument in every if argument.arg not in ("self", "cls")]
    return function.returns is None or any(argument.annotation is None for argument in named)


def problems(files: list[Path]) -> Iterator[str]:
    """One line for each budget that is broken."""
    lengths = []
    for path in (path for path in files if path.suffix == ".py"):
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > MOST_FILE_LINES:
            yield f"{path}: {lines} lines, at most {MOST_FILE_LINES}"
        for function, length in functions(path):
            lengths.append(length)
            if length > MOST_FUNCTION_LINES:
                yield f"{path}:{function.lineno} {function.name}: {length} lines, at most {MOST_FUNCTION_LINES}"
            if unannotated(function):
                yield f"{path}:{function.lineno} {function.name}: not fully annotated"
    p90 = sorted(lengths)[int(0.9 * len(lengths))]
    if p90 > P90_FUNCTION_LINES:
        yield f"90 % of functions have up to {p90} lines, at most {P90_FUNCTION_LINES}"
    if (tree := sum(path.stat().st_size for path in files)) > MOST_TREE_BYTES:
        yield f"the tree has {tree} bytes, at most {MOST_TREE_BYTES}"


def main() -> int:
    """Prints what breaks a budget; 1 if anything does."""
    found = list(problems(tracked_files()))
    sys.stdout.write("\n".join([*found, f"sizes: {len(found)} problem(s)"]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
