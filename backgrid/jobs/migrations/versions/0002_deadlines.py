"""Until when a worker may run a job, so that others know when it is lost; and a name for the queue of this database."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("deadline", sa.DateTime(timezone=True)))
    site = op.create_table("site", sa.Column("id", sa.String(32), primary_key=True))
    op.bulk_insert(site, [{"id": uuid.uuid4().hex}])


def downgrade() -> None:
    op.drop_table("site")
    op.drop_column("jobs", "deadline")
