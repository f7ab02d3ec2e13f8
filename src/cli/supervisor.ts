/** `unstuck supervisor`: one supervisor process. */
import { type Command, Option } from 'commander'
import { createLogger } from '../platform/pino-logger.js'
import { contextOf } from './context.js'
import { refuseUnsuitableRedis } from './first-look.js'
import { leave, STOP_LIMIT_MS, stayUntilStopped, tellParent } from './long-running.js'
import { parsePort } from './option-numbers.js'

interface SupervisorFlags {
  readonly queue?: readonly string[]
  readonly name?: string
  readonly group?: string
  readonly port?: number
  readonly withParent?: boolean
}

export function addSupervisorCommand(program: Command): void {
  program
    .command('supervisor')
    .description('take jobs and run them in watched threads')
    .option('--queue <queues...>', 'serve only these queues (default: all of the config)')
    .option('--name <name>', 'name of this supervisor (default: host name and a number)')
    .option('--group <group>', 'label of this supervisor')
    .option('--port <port>', 'port of /livez, /readyz and /metrics, 0 = any free', parsePort)
    .addOption(withParentOption())
    .action(async (flags: SupervisorFlags, command: Command) => {
      const context = contextOf(command)
      const { name, group, port } = flags
      const config = await context.config({ flags: { supervisor: { name, group, port } } })
      const log = createLogger({
        ...config.log,
        role: 'supervisor',
        ...(config.supervisor.name ? { name: config.supervisor.name } : {}),
      })
      let drain: (why: string) => void = () => undefined
      let wornOut = false
      // Here, since no other command needs what it loads.
      const { Supervisor } = await import('../processes/supervisor.js')
      const supervisor = new Supervisor({
        config,
        ...(flags.queue ? { queues: flags.queue } : {}),
        log,
        onReplaced: () => {
          log.error({ event: 'replaced' }, `name ${supervisor.name} was taken over by a newer process; this one ends at once`)
          process.exit(1)
        },
        onDrainOrder: () => drain('ordered to drain: what runs may finish'),
        onWornOut: (queue) => {
          wornOut = true
          log.error(
            { event: 'worn_out', queue },
            `too many threads of ${queue} cannot be ended: this process drains and is killed`,
          )
          drain('what runs may finish')
        },
      })
      // Not through the signals: an order that comes twice, or a signal after it, must not force the end.
      const drained = new Promise<void>((resolve, reject) => {
        drain = (why) => {
          if (supervisor.state === 'running') log.info({ event: 'stopping' }, why)
          supervisor.stop().then(resolve, reject)
        }
      })
      const stopped = stayUntilStopped(
        { stop: () => supervisor.stop(), force: () => supervisor.force() },
        { log, withParent: flags.withParent === true, stopLimitMs: config.supervisor.drainMs + STOP_LIMIT_MS },
      )
      await refuseUnsuitableRedis(config)
      await supervisor.start()
      tellParent({ unstuck: 'ready', name: supervisor.name, address: `http://${config.supervisor.host}:${supervisor.port}` })
      await Promise.race([stopped, drained])
      // Not even exit() gets past a thread in native code; and whoever restarts what failed must see that it did.
      if (wornOut) process.kill(process.pid, 'SIGKILL')
      leave()
    })
}

/** Set by `up`: end when the process that started this one is gone. */
export function withParentOption(): Option {
  return new Option('--with-parent', 'end together with the process that started this one').hideHelp()
}
