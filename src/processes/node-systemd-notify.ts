/**
 * Tells systemd how a service of Type=notify is doing. Node has no unix datagram sockets, so the program `systemd-notify`
 * speaks for us: as a child of this process it is believed when the unit says NotifyAccess=all, and it waits until it was heard.
 */
import { spawn } from 'node:child_process'

export interface SystemdOptions {
  /** NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read from it. */
  readonly env: NodeJS.ProcessEnv
  readonly monotonicMs: () => number
  /** Told once: a program that is missing is missing each time. */
  readonly onError: (message: string) => void
}

export interface Systemd {
  /** Silence for so long and systemd starts the service anew, milliseconds. Undefined: it does not watch this process. */
  readonly watchdogMs: number | undefined
  ready(): void
  stopping(): void
  /** All is well now. May be called as often as one likes; passed on twice in `watchdogMs`. */
  alive(): void
}

/** systemd-notify waits up to 5 s for systemd to take note, milliseconds. */
const NOTIFY_WITHIN_MS = 6000

/** Does nothing where no systemd asked for it. */
export function systemdOf({ env, monotonicMs, onError }: SystemdOptions): Systemd {
  const notify = env['NOTIFY_SOCKET'] ? notifier(env, onError) : () => undefined
  const watchdogMs = env['NOTIFY_SOCKET'] ? watchdogMsIn(env) : undefined
  let nextAt = Number.NEGATIVE_INFINITY
  return {
    watchdogMs,
    ready: () => notify('READY=1'),
    stopping: () => notify('STOPPING=1'),
    alive() {
      const now = monotonicMs()
      if (watchdogMs === undefined || now < nextAt) return
      nextAt = now + watchdogMs / 2
      notify('WATCHDOG=1')
    },
  }
}

/** @returns undefined when it is not this process that is watched, but one that started it */
function watchdogMsIn(env: NodeJS.ProcessEnv): number | undefined {
  const { WATCHDOG_USEC: micros = '', WATCHDOG_PID: pid } = env
  if (pid !== undefined && pid !== String(process.pid)) return undefined
  return /^[1-9]\d*$/.test(micros) ? Number(micros) / 1000 : undefined
}

type State = 'READY=1' | 'STOPPING=1' | 'WATCHDOG=1'

function notifier(env: NodeJS.ProcessEnv, onError: (message: string) => void): (state: State) => void {
  let told = false
  const tell = (message: string) => {
    if (!told) onError(`systemd-notify: ${message}, so systemd does not hear of this process; further failures are not said`)
    told = true
  }
  return (state) => {
    const child = spawn('systemd-notify', [state], { env, stdio: 'ignore', timeout: NOTIFY_WITHIN_MS, killSignal: 'SIGKILL' })
    child.once('error', (error) => tell(error.message))
    child.once('exit', (code, signal) => {
      if (code !== 0) tell(`ended with ${code ?? signal}`)
    })
  }
}
