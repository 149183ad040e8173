"""`python -m pairwright` is `pairwright`."""

from pairwright.cli import main

raise SystemExit(main())
