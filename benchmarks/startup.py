"""The claim: `import pairwright` and `pairwright --help` take less than 0.5 s. Prints the median and worst of ten."""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c 'pass' (for comparison)": [sys.executable, "-c", "pass"],
    "import pairwright": [sys.executable, "-c", "import pairwright"],
    "pairwright --help": [sys.executable, "-m", "pairwright", "--help"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


for name, command in COMMANDS.items():
    seconds(command)  # the first run compiles and fills the disk cache
    times = [seconds(command) for _ in range(10)]
    print(f"{name:36s} median {statistics.median(times):.3f} s   worst {max(times):.3f} s   n = {len(times)}")
