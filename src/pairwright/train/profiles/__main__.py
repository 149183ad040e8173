"""`python -m pairwright.train.profiles NAME`: the path of a profile, for a command line."""

import sys

from pairwright.plug import nearest
from pairwright.train.profiles import PROFILES


def main() -> int:
    """Print the path of the profile that is named."""
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if name in PROFILES:
        print(PROFILES[name])
        return 0
    print(f"there is no profile {name!r}{nearest(name, PROFILES)}; there are {', '.join(PROFILES)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
