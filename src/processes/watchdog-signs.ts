/** The signs of life of a watchdog process, for a monitor outside and for systemd. Both hang on its cycles and on nothing else. */
import { messageOf } from '../kernel/errors.js'
import type { Config } from '../platform/config.js'
import { VERSION } from '../platform/version.js'
import { CycleEnds } from '../watchdog/cycle-ends.js'
import { Deadman } from '../watchdog/deadman.js'
import { pingUrl } from '../watchdog/node-deadman.js'
import type { LineLog } from '../watchdog/report.js'
import type { WatchTelemetry, WatchView } from '../watchdog/watch-loop.js'
import { systemdOf } from './node-systemd-notify.js'

export interface WatchdogSignsOptions {
  readonly config: Pick<Config, 'watchdog'>
  readonly watchdogId: string
  readonly log: LineLog
  readonly monotonicMs: () => number
  readonly view: () => WatchView
  /** Default: that of `Deadman`. */
  readonly deadmanIntervalMs?: number | undefined
}

export interface WatchdogSigns {
  /** Tells of each cycle's end, and gives signs by it. */
  through(telemetry: WatchTelemetry): WatchTelemetry
  ready(): void
  stopping(): void
}

export function watchdogSigns(options: WatchdogSignsOptions): WatchdogSigns {
  const { watchdogId, log, monotonicMs, view } = options
  const warn = (message: string) => log.warn({ event: 'watchdog_trouble', watchdogId }, message)
  const systemd = systemdOf({ env: process.env, monotonicMs, onError: warn })
  const deadman = deadmanOf(options, warn)
  const ends = new CycleEnds()
  return {
    ready: () => systemd.ready(),
    stopping: () => systemd.stopping(),
    through: (telemetry) => ({
      lineWritten: (transition) => telemetry.lineWritten(transition),
      detected: (lateByMs) => telemetry.detected(lateByMs),
      cycleEnded(durationMs) {
        telemetry.cycleEnded(durationMs)
        const { judged, turned } = ends.look(view())
        if (judged) deadman?.judged()
        if (turned) systemd.alive()
      },
    }),
  }
}

function deadmanOf(options: WatchdogSignsOptions, warn: (message: string) => void): Deadman | undefined {
  const { config, monotonicMs, deadmanIntervalMs: intervalMs } = options
  const url = config.watchdog.deadmanUrl
  if (url === undefined) return undefined
  return new Deadman({
    ping: () => pingUrl(url, `unstuck/${VERSION}`),
    monotonicMs,
    onFailure: (error) => warn(`watchdog.deadmanUrl: ${messageOf(error)}; it will raise the alarm, and this is said once`),
    ...(intervalMs === undefined ? {} : { intervalMs }),
  })
}
