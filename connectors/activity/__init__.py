"""
The activity log: topics ``attempts`` and ``dead-letters`` projected into a database that can be searched.

projector.py reads the topics, projection.py makes rows of their records, store.py keeps and finds them, on sqlite.py or postgres.py.
Whatever is in the database can be made again from the topics, as far back as these reach.
"""
