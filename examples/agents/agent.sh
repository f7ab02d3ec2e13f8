#!/bin/sh
# A small agent: writes a report about the repository that it stands in, and commits it on its own branch.
# Its task is JSON on standard input: {"folder": "src", "width": 120}, where both may be left out.
set -eu

# Exit code 64 stands in permanentExitCodes: a task that makes no sense is not tried again.
refuse() {
  echo "task: $1"
  exit 64
}

# A line of output and a touch of the file are signs of life; either would do.
say() {
  echo "$1"
  touch "$UNSTUCK_HEARTBEAT_FILE"
}

# Installed, or run by npx, unstuck is on the PATH. In a clone of its own repository it may be only built.
command -v unstuck >/dev/null || unstuck() { node "$(dirname "$0")/../../dist/cli/main.js" "$@"; }

# In tmux standard input is the terminal, and the task lies in a file.
task=$(cat "${UNSTUCK_INPUT_FILE:-/dev/stdin}")

# field NAME DEFAULT: what comes from a job is data. It is quoted wherever it is used, and never run.
field() {
  printf '%s' "$task" | node -p "JSON.parse(fs.readFileSync(0))?.['$1'] ?? '$2'" 2>/dev/null
}

folder=$(field folder .) || refuse 'no JSON'
width=$(field width 120)
case $width in '' | *[!0-9]*) refuse 'width: not a whole number' ;; esac

say "reading $folder on $(git branch --show-current)"
# They go with the worktree.
files=$(mktemp ./files.XXXXXX)
counts=$(mktemp ./counts.XXXXXX)
git -c core.quotePath=off grep -I -l -e '' -- ":(literal)$folder" ':(exclude)REPORT.md' >"$files" ||
  refuse 'folder: no text of this repository in it'

say "counting the lines of $(($(wc -l <"$files"))) files"
while IFS= read -r file; do
  awk -v width="$width" '
    length($0) > width { long += 1 }
    /TODO|FIXME/ { notes += 1 }
    END { print NR + 0, long + 0, notes + 0 }
  ' "./$file" | tr '\n' ' '
  echo "$file"
  touch "$UNSTUCK_HEARTBEAT_FILE"
done <"$files" >"$counts"

say 'writing REPORT.md'
{
  echo "# What is in $folder"
  echo
  awk -v width="$width" '
    { lines += $1; long += $2; notes += $3 }
    END { printf "%d files, %d lines, %d of them longer than %d characters, %d with TODO or FIXME.\n", NR, lines, long, width, notes }
  ' "$counts"
  echo
  echo '| lines | too long | notes | file |'
  echo '| ---: | ---: | ---: | --- |'
  sort -rn "$counts" | head -n 20 | sed 's/^\([0-9]*\) \([0-9]*\) \([0-9]*\) \(.*\)/| \1 | \2 | \3 | \4 |/'
} >REPORT.md
git add REPORT.md
if git diff --cached --quiet; then
  say 'nothing new since the last attempt'
  exit 0
fi

# The last question before something happens that others see: is this job still ours?
unstuck fence check
git -c user.name=agent -c user.email=agent@localhost -c commit.gpgSign=false commit -q -m "Report on $folder"
say "committed $(git rev-parse --short HEAD)"
