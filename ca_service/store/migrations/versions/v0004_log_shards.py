"""Each log's period by notAfter, and why it was retired."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from 0003 to 0004: the one log so far takes everything."""
    op.add_column("tree_heads", sa.Column("starts", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("tree_heads", sa.Column("ends", sa.BigInteger(), nullable=True))
    op.add_column("tree_heads", sa.Column("retired_for", sa.Text(), nullable=False, server_default=""))
