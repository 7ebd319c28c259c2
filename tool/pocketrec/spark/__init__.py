"""The preparation on a Spark cluster: `pocketrec prep --engine spark`, and `pocketrec land`, which brings the result home.

Spark sorts, sums, moves and commits; what a click, a set, a session or a mini-batch is, is said by the functions of
`sources`, `ingestion` and `sessions`, which run over one part at a time in Spark's Python workers. So the files that come
out have the bytes that one machine would write.

A dataset on a cluster is a folder that the session's Hadoop can open. Each stage writes a new folder of Parquet in it; the
last act of a run is the manifest, in one piece. Only files that it lists are landed, so a run that is stopped at any moment
leaves the dataset that was there before it.
"""
