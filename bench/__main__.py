"""Every benchmark, one after the other; arguments are those of each benchmark on its own: ``python bench/streams.py --help``."""

from bench import lanes, standing_queries, streams, templates, way

if __name__ == "__main__":
    standing_queries.main()
    lanes.main()
    streams.main()
    templates.main()
    way.main()
