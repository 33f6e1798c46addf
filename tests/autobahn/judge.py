"""Judges an Autobahn report: every case passed, every close was clean, and no case is missing."""

import collections
import json
import sys

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
GOOD_CLOSE = {"OK", "INFORMATIONAL"}


def counts(label, verdicts):
    listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(collections.Counter(verdicts).items()))
    print(f"{label}: {listed}")


def main(path, expected):
    with open(path, encoding="utf-8") as file:
        cases = json.load(file).get("tidegate", {})
    bad = [
        f"case {name}: {case['behavior']}, close {case['behaviorClose']}"
        for name, case in cases.items()
        if case["behavior"] not in GOOD or case["behaviorClose"] not in GOOD_CLOSE
    ]
    bad.sort(key=lambda line: [int(part) for part in line.split()[1].rstrip(":").split(".")])
    if cases:
        counts("behaviour", (case["behavior"] for case in cases.values()))
        counts("close", (case["behaviorClose"] for case in cases.values()))
    for line in bad:
        print(line)
    # Fewer cases mean that the suite stopped early.
    if len(cases) != expected:
        print(f"{len(cases)} cases ran, {expected} should have: is the endpoint there, and does it answer?")
        return 1
    print(f"autobahn: {len(cases) - len(bad)} of {len(cases)} cases passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
