"""One machine, one command: a Redis, a worker and the web server, started and stopped together."""
