"""
The index of standing queries: which of ten thousand queries a change is worth asking of.

    predicates.py   tests of one value that can be looked up: equality, prefix, range, absence
    conditions.py   from a query's tree to the predicates of which one must hold for it to match
    stores.py       where equal, ranged and prefixed predicates are found by a value
    places.py       the stores of one path, and how its value is read
    collection.py   the queries of one collection: candidates for a document's old and new value
    index.py        all of them behind streams.matching.StandingQueries

docs/explanation/standing-queries.md says why it is built like this.
"""
