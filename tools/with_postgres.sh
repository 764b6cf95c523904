#!/usr/bin/env bash
# Runs a command beside a PostgreSQL server of its own, whose URL is in INFINITETALK_TEST_POSTGRES:
#     tools/with_postgres.sh make test
# Without a server program the command runs all the same, and the tests that need one are skipped by name.
set -euo pipefail
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
if [ -z "$programs" ]; then
	echo "NOT RUN: tests with PostgreSQL (its server programs are not installed)"
	exec "$@"
fi
folder=$(mktemp -d)
as=()
if [ "$(id -u)" = 0 ]; then  # the server refuses to run as root
	chown postgres "$folder"
	as=(runuser -u postgres --)
fi
port=$((20000 + RANDOM % 20000))
(cd "$folder" && "${as[@]}" "$programs/initdb" -D "$folder/data" -A trust -U tester --no-sync >/dev/null)
(cd "$folder" && "${as[@]}" "$programs/pg_ctl" -D "$folder/data" -w -s -l "$folder/log" \
	-o "-c listen_addresses=127.0.0.1 -p $port -k $folder -F" start)
trap '(cd "$folder" && "${as[@]}" "$programs/pg_ctl" -D "$folder/data" -m immediate -s stop) || true; rm -rf "$folder"' EXIT
INFINITETALK_TEST_POSTGRES="postgresql://tester@127.0.0.1:$port/postgres" "$@"
