"""Features in and out: the layouts of Neuronpedia and SAEDashboard, and this project's own notes beside them.

Reading goes in two passes. The first (``reading``) parses every record and keeps it in a scratch file (``spool``), from
which a lost worker's successor goes on. The second (``write``) brings it into the database in one transaction: half an
import is never seen. Memory does not grow with the files. Nothing here loads torch.
"""
