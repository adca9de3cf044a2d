"""Every benchmark, one after the other; arguments are those of each benchmark on its own: ``python bench/streams.py --help``."""

from bench import standing_queries, streams, way

if __name__ == "__main__":
    standing_queries.main()
    streams.main()
    way.main()
