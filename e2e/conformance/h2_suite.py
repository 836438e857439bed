#!/usr/bin/env python3
"""Runs the cases against a server: h2_suite.py PORT [CASE ...].

Tells each failure; ends with 1 if there is one.
"""

import sys

import wire
from h2_cases import CASES


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


def main():
    port, wanted = int(sys.argv[1]), sys.argv[2:]
    passed = failed = 0
    for number, title, function in CASES:
        if not wanted or number in wanted:
            failure = run(port, function)
            passed, failed = passed + (failure is None), failed + (failure is not None)
            if failure:
                print(f"FAIL {number} {title}: {failure}")
    print(f"{passed} pass, {failed} fail")
    sys.exit(1 if failed or not passed else 0)


main()
