"""The Python API that the package `isotherm` re-exports: what the commands do, with values in place of print."""
