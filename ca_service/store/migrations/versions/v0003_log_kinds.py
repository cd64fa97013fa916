"""The kind of entry that each log takes."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from 0002 to 0003: every log so far is one of certificates."""
    # A default, because rows of this table never change: the triggers would refuse to fill the column.
    op.add_column("logs", sa.Column("kind", sa.Text(), nullable=False, server_default="precertificate"))
