/** `unstuck up`: everything on this machine in the foreground, and with `--demo` jobs that show what it does. */
import { fileURLToPath } from 'node:url'
import type { Command } from 'commander'
import { UserError } from '../kernel/errors.js'
import type { Config } from '../platform/config.js'
import { createLogger, type LineSink, prettySink } from '../platform/pino-logger.js'
import { type CliContext, contextOf } from './context.js'
import { Demo } from './demo.js'
import { leave, STOP_LIMIT_MS, stayUntilStopped } from './long-running.js'
import { Machine } from './machine.js'
import { parsePort, wholeNumber } from './option-numbers.js'
import type { Terminal } from './terminal.js'

interface UpFlags {
  readonly demo?: boolean
  readonly supervisors?: number
  readonly port?: number
}

const DEMO_CONFIG = fileURLToPath(new URL('../../examples/demo.config.mjs', import.meta.url))
/** The demo shows jobs on more than one process. */
const DEMO_SUPERVISORS = 2

export function addUpCommand(program: Command): void {
  program
    .command('up')
    .description('run everything on this machine: Redis unless one is given, a watchdog, supervisors, the dashboard')
    .option('--demo', 'feed demonstration jobs, some of which get stuck')
    .option('--supervisors <number>', 'how many supervisor processes (default: 1; 2 with --demo)', wholeNumber(1, 64))
    .option('--port <port>', 'port of the dashboard, 0 = any free', parsePort)
    .action(async (flags: UpFlags, command: Command) => up(contextOf(command), flags))
}

async function up(context: CliContext, { demo: wantsDemo = false, supervisors, port }: UpFlags): Promise<void> {
  const configFile = wantsDemo ? demoConfig(context) : context.options.config
  const config = await context.config({
    ...(configFile === undefined ? {} : { file: configFile }),
    flags: { http: { port }, ...(context.json ? { log: { format: 'json' as const } } : {}) },
    findEmbedded: false,
  })
  const sink = sinkFor(config, context.terminal)
  const log = createLogger({ ...config.log, format: 'json', role: 'up' }, sink)
  let demo: Demo | undefined
  const machine = new Machine({
    config,
    configFile,
    supervisors: supervisors ?? (wantsDemo ? DEMO_SUPERVISORS : 1),
    log,
    onLine: (line) => {
      sink.write(`${line}\n`)
      demo?.heard(line)
    },
    onComplaint: (line) => context.terminal.note(line),
  })
  const stop = async () => {
    log.info({ event: 'stopping' }, 'stopping: what runs may finish (again to force)')
    await demo?.stop()
    await machine.stop()
  }
  const stopped = stayUntilStopped(
    { stop, force: () => machine.force() },
    {
      log,
      withParent: false,
      stopLimitMs: config.supervisor.drainMs + 2 * STOP_LIMIT_MS,
    },
  )
  await machine.start()
  if (machine.state === 'running') {
    log.info({ event: 'ready' }, `dashboard: ${machine.address}`)
    if (wantsDemo) {
      demo = new Demo({
        config: { ...config, redis: { ...config.redis, url: machine.redisUrl } },
        terminal: context.terminal,
        log,
        reduced: machine.reduced,
      })
      await demo.start()
    }
  }
  await stopped
  log.info({ event: 'stopped' }, 'all stopped')
  leave()
}

function demoConfig(context: CliContext): string {
  if (context.options.config === undefined) return DEMO_CONFIG
  throw new UserError('INPUT_INVALID', '--demo: brings a config of its own; leave --config out, or leave --demo out')
}

/** Lines of all processes go through one place, so that they do not mix with each other or with a bar. */
function sinkFor({ log }: Config, terminal: Terminal): LineSink {
  const lines: LineSink = { write: (text) => terminal.line(text.replace(/\n$/, '')) }
  return log.format === 'pretty' ? prettySink(lines) : lines
}
