"""Setting hosts up over SSH (``modelrunner deploy``); ``grants`` lets workers and colleagues in."""
