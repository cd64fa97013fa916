"""The whole service in its own processes, over HTTP and by its command."""
