"""The build backend of pyproject.toml: meson-python, with the wheel tagged for every Python 3.

meson-python takes all compiled files of a package for extension modules and tags the wheel for the Python that built it. Ours are a shared
library that ctypes opens and a program: they know nothing of Python.
"""
import base64
import hashlib
import os
import re
import zipfile

from mesonpy import build_editable, build_sdist, get_requires_for_build_editable, get_requires_for_build_sdist, get_requires_for_build_wheel  # noqa: F401
from mesonpy import build_wheel as _build_wheel

_TAG = re.compile(r"cp\d+-cp\d+t?-")


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = _build_wheel(wheel_directory, config_settings, metadata_directory)
    renamed = _TAG.sub("py3-none-", name)
    if renamed != name:
        _retag(os.path.join(wheel_directory, name), os.path.join(wheel_directory, renamed))
        os.remove(os.path.join(wheel_directory, name))
    return renamed


def _retag(old, new):
    with zipfile.ZipFile(old) as source, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as target:
        facts = ""
        for entry in source.infolist():
            data = source.read(entry)
            if entry.filename.endswith(".dist-info/WHEEL"):
                data = _TAG.sub("py3-none-", data.decode()).encode()
                digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                facts = f"{entry.filename},sha256={digest},{len(data)}"
            if entry.filename.endswith(".dist-info/RECORD"):
                lines = data.decode().splitlines()
                data = "".join(f"{facts if facts and line.startswith(facts.split(',')[0]) else line}\n" for line in lines).encode()
            target.writestr(entry, data)
