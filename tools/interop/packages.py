"""Python packages that a check needs: run it with the project's own environment, or skip it with a reason."""
import importlib.util
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENVIRONMENT = os.path.join(ROOT, "build", "python", "bin", "python")
SKIPPED = 77  # what the test runner takes for "skipped"


def require(*names):
    """Returns when all packages can be imported; starts the script again in build/python; or ends it as skipped."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if os.path.exists(ENVIRONMENT) and os.path.abspath(sys.executable) != ENVIRONMENT:
        os.execv(ENVIRONMENT, [ENVIRONMENT, *sys.argv])
    print(f"skipped: no Python package {', '.join(missing)}; ./vexil.sh test --with-python installs them")
    sys.exit(SKIPPED)
