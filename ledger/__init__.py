"""The append-only ledger: events, job states, the chained log and the board."""
