#!/usr/bin/env python3
"""Runs the cases against a server: h2_suite.py PORT [CASE ...].

Tells each failure, and each case where the library is known to differ; ends with 1 if there is a failure, or if a known
difference is gone.
"""

import sys

import wire
from h2_cases import CASES, OTHERWISE, PROTOCOL_INSTEAD


def run(port, function):
    connection = None
    try:
        connection = wire.Connection(port, getattr(function, "settings", b""), getattr(function, "begins", True))
        function(connection)
        return None
    except (wire.Failed, OSError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if connection:
            connection.close()


def judge(number, failure):
    """Returns "PASS", "DIFFERS" or "FAIL", and why."""
    if number in PROTOCOL_INSTEAD:
        wanted = f"GOAWAY {wire.PROTOCOL_ERROR} instead of ({PROTOCOL_INSTEAD[number]},)"
        if failure and wanted in failure:
            return "DIFFERS", wanted
        return "FAIL", failure or "it does not differ any longer: take it off the list"
    if number in OTHERWISE:
        return ("DIFFERS", OTHERWISE[number]) if failure else ("FAIL", "it does not differ any longer")
    return ("FAIL", failure) if failure else ("PASS", "")


def main():
    port, wanted = int(sys.argv[1]), sys.argv[2:]
    counts = {"PASS": 0, "DIFFERS": 0, "FAIL": 0}
    for number, title, function in CASES:
        if not wanted or number in wanted:
            verdict, why = judge(number, run(port, function))
            counts[verdict] += 1
            if why:
                print(f"{verdict} {number} {title}: {why}")
    print(f"{counts['PASS']} pass, {counts['DIFFERS']} differ as known, {counts['FAIL']} fail")
    sys.exit(1 if counts["FAIL"] or not counts["PASS"] else 0)


main()
