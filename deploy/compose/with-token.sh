#!/bin/sh
# Runs a command whose http.token is in the file that UNSTUCK_TOKEN_FILE names. When there is none yet it makes one of 256
# random bits, which only this user can read. Of replicas that start at once, the first one's token stays.
set -eu
umask 077
file=$UNSTUCK_TOKEN_FILE
if [ ! -e "$file" ]; then
  made=$(mktemp "$file.XXXXXX")
  node -p "require('node:crypto').randomBytes(32).toString('base64url')" >"$made"
  if ln "$made" "$file" 2>/dev/null; then
    echo "unstuck: made a token; show it with \`docker compose exec watchdog cat $file\`" >&2
  fi
  rm "$made"
fi
exec "$@"
