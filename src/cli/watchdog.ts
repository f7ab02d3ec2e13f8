/** `unstuck watchdog`: one watchdog process with its HTTP server. */
import type { Command } from 'commander'
import { createLogger } from '../platform/pino-logger.js'
import type { RunningWatchdog } from '../processes/watchdog.js'
import { contextOf } from './context.js'
import { refuseUnsuitableRedis } from './first-look.js'
import { leave, STOP_LIMIT_MS, stayUntilStopped, tellParent } from './long-running.js'
import { parsePort } from './option-numbers.js'
import { withParentOption } from './supervisor.js'

interface WatchdogFlags {
  readonly port?: number
  readonly host?: string
  readonly withParent?: boolean
}

export function addWatchdogCommand(program: Command): void {
  program
    .command('watchdog')
    .description('judge supervisors and queues, and say what is stuck')
    .option('--port <port>', 'port of the dashboard, the API and /metrics, 0 = any free', parsePort)
    .option('--host <host>', 'address to listen on; any other than loopback needs http.token')
    .addOption(withParentOption())
    .action(async ({ port, host, withParent }: WatchdogFlags, command: Command) => {
      const config = await contextOf(command).config({ flags: { http: { port, host } }, handlersMustExist: false })
      const log = createLogger({ ...config.log, role: 'watchdog' })
      let starting: Promise<RunningWatchdog> | undefined
      const stop = async () => (await starting)?.stop()
      const stopped = stayUntilStopped({ stop }, { log, withParent: withParent === true, stopLimitMs: STOP_LIMIT_MS })
      await refuseUnsuitableRedis(config)
      // Here, since no other command needs what it loads.
      const { startWatchdog } = await import('../processes/watchdog.js')
      starting = startWatchdog(config, { log })
      const watchdog = await starting
      log.info({ event: 'started', watchdogId: watchdog.id }, `watchdog listens on ${watchdog.address}`)
      tellParent({ unstuck: 'ready', name: watchdog.id, address: watchdog.address })
      await stopped
      log.info({ event: 'stopped', watchdogId: watchdog.id }, 'watchdog stopped')
      leave()
    })
}
