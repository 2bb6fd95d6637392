"""How a claimed job is executed: the runner, its runs, their limits."""
