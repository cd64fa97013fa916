"""The run of `fsck`: in which order everything is read, by how many processes, and where a run goes on.

What must hold is in authority/*_inspection, the reading in store/inspection and store/integrity.
"""

from ca_service.cli.inspection.portions import Subject
from ca_service.cli.inspection.progress import Progress, read_state
from ca_service.cli.inspection.run import Inspection

__all__ = ["Inspection", "Progress", "Subject", "read_state"]
