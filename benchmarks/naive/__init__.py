"""Plain re-implementations of what the references do, to measure beside ours; written for these benchmarks alone.

They follow method.md's account of the released code (loops over points, features computed anew, one view at a time,
200 thresholds) with our conventions, so that their results can be compared with ours; the tests do.
"""
