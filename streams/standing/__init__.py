"""
The index of standing queries: which of ten thousand queries a change is worth asking of.

    predicates.py   tests of one value that can be looked up: equality, prefix, range, absence
    conditions.py   from a query's tree to the predicates of which one must hold for it to match
    selection.py    a query as the index keeps it: a function, its condition, what it reads
    stores.py       where prefixes and ranges are found by a value
    places.py       the stores of every place of a document
    found.py        what a change has found, and what values have before
    levels.py       queries by one predicate, and where many share one, by the next
    collection.py   the queries of one collection: who wants a change, and as what
    index.py        all of them behind streams.matching.StandingQueries
    shown.py        how a query is found, for people

docs/explanation/standing-queries.md says why it is built like this.
"""
