/**
 * The shell scripts that stand between a supervisor and a session's command. A shell costs a fiftieth of a Node process.
 *
 *   leader ─┬─ watcher: reads the control pipe (fd 3)
 *           ├─ runner ── the command ──┐ its output
 *           └─ logger ── dd ◀──────────┘
 *
 * All of them are one process group, known by the leader's pid from the moment of the spawn. The command runs in the
 * foreground of its shell: one in the background would start with INT ignored, and a `wait` that a signal interrupts
 * gives a wrong exit code. Everything but the command outlives the signals that the group is sent, to tell its end: they
 * are ignored before anything is forked, and trapped by the runner only, since what is ignored stays so in the command.
 *
 * The leader waits for its own before it ends: whatever it left would be a zombie of a PID 1 that may reap late or never.
 * What is still there by then is something that the command left behind, and is killed.
 */

/** Signals that end or stop a shell by default, and that a command may send to its whole group. */
const SIGNALS = 'HUP INT QUIT ALRM TERM USR1 USR2'

/** The session's own variables are of no use to the shim, and its PATH may hold anything. */
const OWN_PATH = 'PATH=/usr/bin:/bin:$PATH'

/**
 * Ends the group when the other end of the control pipe is closed, that is when the supervisor is gone, unless it was
 * told before that the session is released.
 */
const WATCHER = `{
  ${OWN_PATH}
  read -r UNSTUCK_SHIM_WORD
  if [ "$UNSTUCK_SHIM_WORD" != release ]; then
    kill -s TERM 0
    sleep "$UNSTUCK_SHIM_GRACE" || sleep 1
    kill -s KILL 0
  fi
} <&3 >/dev/null 2>&1 &`

/**
 * Copies its input to the log, and turns the log over. dd writes each read at once and counts reads, however short, so
 * that a log is measured after so many as would fill it were they full. Where the log cannot be written, on a full disk,
 * output is dropped: the command must not wait for it.
 */
const LOGGER = `${OWN_PATH}
  UNSTUCK_SHIM_SIZE=0
  while :; do
    if [ "$UNSTUCK_SHIM_SIZE" -gt $((UNSTUCK_SHIM_BYTES * 3 / 4)) ]; then
      mv -f "$UNSTUCK_SHIM_DIR/log" "$UNSTUCK_SHIM_DIR/log.old"
      UNSTUCK_SHIM_SIZE=0
    fi
    UNSTUCK_SHIM_COUNT=$(((UNSTUCK_SHIM_BYTES - UNSTUCK_SHIM_SIZE) / UNSTUCK_SHIM_BLOCK))
    UNSTUCK_SHIM_TOLD=$(dd bs="$UNSTUCK_SHIM_BLOCK" count="$UNSTUCK_SHIM_COUNT" 2>&1 >>"$UNSTUCK_SHIM_DIR/log") ||
      UNSTUCK_SHIM_TOLD=$(dd bs="$UNSTUCK_SHIM_BLOCK" count="$UNSTUCK_SHIM_COUNT" 2>&1 >/dev/null) || break
    UNSTUCK_SHIM_TOLD=\${UNSTUCK_SHIM_TOLD% records in*}
    UNSTUCK_SHIM_TOLD=\${UNSTUCK_SHIM_TOLD##*[!0-9+]}
    [ $((\${UNSTUCK_SHIM_TOLD:-0})) -ge "$UNSTUCK_SHIM_COUNT" ] || break
    UNSTUCK_SHIM_SIZE=$(($(wc -c <"$UNSTUCK_SHIM_DIR/log") + 0))
  done`

/** Over what the supervisor wrote there: where the disk is full, a new file could not be written. */
const TELL_EXIT = 'echo "$UNSTUCK_SHIM_CODE" 1<>"$UNSTUCK_SHIM_DIR/exit"'

/** Name of the shim in a list of processes; with the folder after it, the place where a session is found. */
export const SHIM_NAME = 'unstuck-session'

/** `/bin/sh -c SHIM SHIM_NAME FOLDER LOG_BYTES LOG_BLOCK GRACE_SECONDS COMMAND [ARG...]`, with the control pipe as fd 3. */
export const SHIM = `UNSTUCK_SHIM_DIR=$1 UNSTUCK_SHIM_BYTES=$2 UNSTUCK_SHIM_BLOCK=$3 UNSTUCK_SHIM_GRACE=$4
shift 4
trap '' ${SIGNALS}
${WATCHER}
UNSTUCK_SHIM_WATCHER=$!
{
  trap : ${SIGNALS}
  "$@" <"$UNSTUCK_SHIM_DIR/input" 2>&1 3<&-
  UNSTUCK_SHIM_CODE=$?
  ${TELL_EXIT}
  kill -s TERM 0
  echo >&3
} | {
  ${LOGGER}
}
kill -s KILL "$UNSTUCK_SHIM_WATCHER"
wait "$UNSTUCK_SHIM_WATCHER"
kill -s KILL 0`

export interface ShimNumbers {
  readonly logBytes: number
  readonly lostGraceMs: number
}

/** Size of one read of the log, bytes: small enough that many short ones do not fill a log's count at once. */
function blockOf(logBytes: number): number {
  return Math.max(64, Math.min(16_384, Math.floor(logBytes / 256)))
}

const secondsOf = (ms: number) => (ms / 1000).toFixed(3)

export function shimArgs(folder: string, { logBytes, lostGraceMs }: ShimNumbers): string[] {
  return ['-c', SHIM, SHIM_NAME, folder, String(logBytes), String(blockOf(logBytes)), secondsOf(lostGraceMs)]
}

/** As one word of a shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

export interface PaneOrder extends ShimNumbers {
  readonly folder: string
  readonly cwd: string
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/**
 * What a tmux pane runs: the command with the terminal for its input and output. tmux made the pane's process the leader
 * of a group; it waits until a supervisor holds the control pipe, so that nothing runs that nobody would end.
 */
export function paneScript({ folder, cwd, command, args, env, lostGraceMs }: PaneOrder): string {
  const names = Object.keys(env).filter((name) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && name !== 'TERM')
  return `exec 3<${quoted(`${folder}/control`)}
UNSTUCK_SHIM_DIR=${quoted(folder)} UNSTUCK_SHIM_GRACE=${secondsOf(lostGraceMs)}
trap '' ${SIGNALS}
${WATCHER}
trap : ${SIGNALS}
${names.map((name) => `export ${name}=${quoted(env[name] ?? '')}`).join('\n')}
UNSTUCK_SHIM_CODE=126
cd ${quoted(cwd)} && { ${[command, ...args].map(quoted).join(' ')} 3<&-; UNSTUCK_SHIM_CODE=$?; }
${TELL_EXIT}
trap '' ${SIGNALS}
kill -s TERM 0
${OWN_PATH}
sleep 0.3 || sleep 1
kill -s KILL 0
`
}

/** What takes a pane's output, as tmux pipes it. */
export function paneLogScript(folder: string, logBytes: number): string {
  return `UNSTUCK_SHIM_DIR=${quoted(folder)} UNSTUCK_SHIM_BYTES=${logBytes} UNSTUCK_SHIM_BLOCK=${blockOf(logBytes)}
  ${LOGGER}
`
}
