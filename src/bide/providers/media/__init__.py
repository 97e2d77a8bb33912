"""Small real media made of a number: films, songs, notes, words and picture grids, for the sandbox.

Everything here is a pure function of what it is given: the same numbers always give the same bytes, nothing is
read, kept or sent, and any thread may call. It is processor time, so it belongs into a thread.
"""
