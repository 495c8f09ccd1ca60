#!/bin/sh
# lock.sh NAME COMMAND ARG... runs COMMAND while it holds the lock NAME, with curl
# and the agent beside it. COMMAND finds the fence in FENCE. It ends with COMMAND's
# code, or with 75 when the lock was not obtained, and 76 when it was lost: then
# COMMAND is stopped.
set -u
locks="http://${PEER_HTTP_ADDR:-127.0.0.1:7980}/v1/locks/$1"
shift

call() { # METHOD PATH BODY
	curl -sS --fail-with-body --max-time "${4:-2}" -X "$1" -H 'Content-Type: application/json' -d "$3" "$locks$2"
}
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([0-9a-f]*\).*/\1/p"; }

lease=$(call POST '' "{\"ttl_ms\":6000,\"wait_ms\":60000,\"command\":\"lock.sh\",\"pid\":$$}" 65) || {
	printf '%s\n' "$lease" >&2
	exit 75
}
id=$(printf %s "$lease" | field lease)
FENCE=$(printf %s "$lease" | field fence)
export FENCE

"$@" &
work=$!
# Whatever is wrong with a renewal, there are two seconds left to stop in: they
# come every two seconds and take two at the most.
(
	trap 'kill $nap 2>/dev/null; exit' TERM
	while sleep 2 & nap=$!; wait $nap; do
		kill -0 $$ 2>/dev/null || exit # nobody is left to renew for
		call POST /renew "{\"lease\":\"$id\"}" >/dev/null || {
			kill -9 $work
			exit
		}
	done
) &
renewer=$!
wait $work
code=$?
kill $renewer 2>/dev/null
call DELETE '' "{\"lease\":\"$id\"}" >/dev/null || exit 76
exit $code
