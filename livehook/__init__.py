"""The front door: settings, command line, HTTP API, `livehook dev`. The only package that imports all the others."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("livehook")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0"
