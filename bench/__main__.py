"""Every benchmark, one after the other; arguments are those of each benchmark on its own: ``python bench/streams.py --help``."""

from bench import streams, way

if __name__ == "__main__":
    streams.main()
    way.main()
