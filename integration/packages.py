"""Where `make integration-python` puts the packages that some tests need; importing this makes them importable."""

import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent / "target" / "integration" / "python"
if str(PACKAGES) not in sys.path:
    sys.path.insert(0, str(PACKAGES))

try:
    import grpc  # noqa: F401  (what everything here needs; the rest is installed with it)
except ImportError as missing:
    raise SystemExit(f"{missing}: run `make integration-python`, which fills {PACKAGES}") from None
