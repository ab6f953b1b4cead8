"""One machine, one command: a Redis, two workers and the web server, started and stopped together."""
