"""Blocks of a client key."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from 0004 to 0005: the blocks so far concern any key."""
    op.add_column("blocks", sa.Column("key_sha256", sa.Text(), nullable=True))
