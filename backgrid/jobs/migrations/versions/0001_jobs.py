"""Jobs, their results, equity curves and reports."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "jobs",
        sa.Column("number", number, primary_key=True, autoincrement=True),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("key", sa.String(64)),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("symbol", sa.String(40), nullable=False),
        sa.Column("strategy", sa.String(40), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("report", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("owner", "key"),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_by_owner", "jobs", ["owner", "number"])
    op.create_index("jobs_by_status", "jobs", ["status", "number"])

    def of_job() -> sa.Column:
        return sa.Column("number", number, sa.ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True)

    op.create_table(
        "results",
        of_job(),
        sa.Column("sharpe", sa.Float),
        sa.Column("max_drawdown", sa.Float),
        sa.Column("total_return", sa.Float),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("runtime_seconds", sa.Float, nullable=False),
    )
    op.create_table("equity_curves", of_job(), sa.Column("equity", sa.LargeBinary, nullable=False))
    op.create_table(
        "reports",
        of_job(),
        sa.Column("html", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
    )


def downgrade() -> None:
    for name in ("reports", "equity_curves", "results", "jobs"):
        op.drop_table(name)
