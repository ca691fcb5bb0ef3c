#!/usr/bin/env python3
"""Writes unicode_tables.inc: the general category of every code point, as runs of equal category.

    python3 make_unicode_tables.py > unicode_tables.inc

The committed table is Unicode 15.1, the version llama.cpp splits with, so both agree on every code point. Python's own
unicodedata is whatever the interpreter was built with; `pip install unicodedata2==15.1.0` gives the exact version.
"""
try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

# The order is that of `enum Category` in unicode.h.
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Cs Co Cn".split()
PER_LINE = 10


def category_runs():
    previous = None
    for code_point in range(0x110000):
        category = CATEGORIES.index(unicodedata.category(chr(code_point)))
        if category != previous:
            yield code_point << 8 | category
        previous = category


def main():
    print(f"// Made by make_unicode_tables.py from Unicode {unicodedata.unidata_version}. One number a run of code points:")
    print("// first code point << 8 | category (unicode.h); a run ends where the next one begins.")
    runs = [f"0x{run:08x}" for run in category_runs()]
    for i in range(0, len(runs), PER_LINE):
        print(", ".join(runs[i : i + PER_LINE]) + ",")


main()
