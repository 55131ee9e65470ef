"""PostgreSQL: pool, migrations, row locks, group commit, partitions."""
