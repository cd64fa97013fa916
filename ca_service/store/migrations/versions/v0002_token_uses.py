"""The tokens that got their one certificate, where `oidc.single_use_tokens` is set."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go from 0001 to 0002."""
    op.create_table(
        "token_uses",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_token_uses"),
    )
    op.create_index("ix_token_uses_expires", "token_uses", ["expires"])
