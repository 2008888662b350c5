"""LightGBM without what it would like to have along.

Its import takes in pandas, pyarrow, scikit-learn and dask where they are installed, some 60 MB in a process that only
wants to predict rows; without them it works on NumPy arrays alone, which is all that is used here.
"""

from __future__ import annotations

import sys
from typing import Any

_UNWANTED = ("pandas", "pyarrow", "sklearn", "dask", "matplotlib", "graphviz")


def import_lightgbm() -> Any:
    """The module; libraries that are loaded already stay."""
    loaded = sys.modules.get("lightgbm")
    if loaded is not None:
        return loaded
    hidden = [name for name in _UNWANTED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails, which lightgbm provides for
    try:
        import lightgbm
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
    return lightgbm
