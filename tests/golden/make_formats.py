#!/usr/bin/python3
"""Write the fixtures of formats: the files that each producer writes, and what they compute.

`make golden` runs it. grid.py has the values, producers.py the producers' formulae in float64, and a
file for each kind of producer what it writes in which variants; nothing of it is saed's. What comes
of it (formats_out.py) is read by tests/support/formats.h.

Needs Debian's python3-numpy and python3-torch; the fixtures are committed, so tests need no Python.
"""
import os
import shutil

import numpy as np

import formats_dl
import formats_others
import formats_out
import formats_saelens
import formats_scopes


def main():
    np.seterr(all="ignore")  # rows that are not finite
    shutil.rmtree(formats_out.HERE, ignore_errors=True)
    os.makedirs(formats_out.HERE)
    for family in formats_dl, formats_saelens, formats_scopes, formats_others:
        family.write()
    formats_out.finish()


if __name__ == "__main__":
    main()
