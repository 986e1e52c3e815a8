"""
The bus between processes: one channel of the layer for each process, or the database instead.

`messages` are the typed messages, `publisher` sends them, `process_channel` receives them, and
`doorbell` announces writes to a database. `news`, `bells` and `notifications` announce writes
without a shared layer. The hubs on both sides are built from `follower`, `loops` and `tasks`.
"""
