/**
 * How a process that stays ends. The first signal stops it and it exits with 0, the second forces it; a process that
 * `up` started also ends when `up` is gone, whatever ended that. What nobody caught is fatal: said in one line, exit 1.
 */
import { messageOf } from '../kernel/errors.js'
import type { Logger } from '../platform/pino-logger.js'

export interface LongRunning {
  /** Ends everything; may take as long as a drain. */
  stop(): Promise<void>
  /** A second signal came: end it now. */
  force?(): void
}

/** What a process tells the `up` that started it. */
export type MemberMessage =
  | { readonly unstuck: 'ready'; readonly name: string; readonly address: string }
  | { readonly unstuck: 'refused'; readonly code: string }

/** What `up` tells a process that it started. */
export interface ParentMessage {
  readonly unstuck: 'force'
}

/** After a stop only a thread that hangs in native code keeps the process; not even exit() gets past such a one. */
const LAST_RESORT_MS = 3000
/** What a stop may take beyond the drain: every step of it has a limit of its own, which together are less. Milliseconds. */
export const STOP_LIMIT_MS = 30_000
const SIGNALS: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP']

export interface StayOptions {
  readonly log: Pick<Logger, 'fatal' | 'info'>
  /** Started by `up`: its end is ours. */
  readonly withParent: boolean
  /** A stop that takes longer hangs, and the process is killed, milliseconds. */
  readonly stopLimitMs: number
}

/** Must come before the first start, so that a signal during it ends it clean. @returns a promise of the end */
export function stayUntilStopped(running: LongRunning, { log, withParent, stopLimitMs }: StayOptions): Promise<void> {
  // Node would open an inspector port to anyone on the machine.
  process.on('SIGUSR1', () => undefined)
  const fatal = (error: unknown) => {
    log.fatal({ event: 'fatal' }, `unexpected: ${messageOf(error)}${firstFrame(error)}`)
    process.exit(1)
  }
  const killed = (why: string) => {
    log.fatal({ event: 'fatal' }, `${why}: this process is killed`)
    process.kill(process.pid, 'SIGKILL')
  }
  process.on('uncaughtException', fatal).on('unhandledRejection', fatal)
  return new Promise((resolve) => {
    let asked = 0
    const stop = () => {
      asked += 1
      if (asked === 2) running.force?.()
      if (asked > 1) return
      // Unreferenced: it must not keep a process that has ended by then.
      setTimeout(() => killed(`the stop hangs, after ${stopLimitMs / 1000} s`), stopLimitMs).unref()
      running.stop().then(resolve, fatal)
    }
    for (const signal of SIGNALS) process.on(signal, stop)
    if (!withParent) return
    process.once('disconnect', stop)
    process.on('message', (message: ParentMessage) => {
      if (message.unstuck !== 'force') return
      stop()
      running.force?.()
    })
  })
}

/** Ends this process, now that all is stopped. */
export function leave(): void {
  if (process.connected) process.disconnect()
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), LAST_RESORT_MS).unref()
}

export function tellParent(message: MemberMessage): void {
  process.send?.(message)
}

function firstFrame(error: unknown): string {
  const frame = error instanceof Error ? error.stack?.split('\n').find((line) => /^\s+at /.test(line)) : undefined
  return frame === undefined ? '' : ` (${frame.trim()})`
}
