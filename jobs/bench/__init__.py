"""What `manage.py bench` measures: each part runs in a process of its own, on a database that is thrown away."""
